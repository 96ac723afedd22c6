package rados

import (
	"context"
	"encoding/json"
	"fmt"
	"net"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/errgroup"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// monSession is one connection to a mon, as `sessions` tells it (src/mon/Session.h).
type monSession struct {
	Entity string `json:"entity_name"`
	ID     uint64 `json:"global_id"`
	Socket struct {
		Type  string `json:"type"`
		Addr  string `json:"addr"`
		Nonce uint32 `json:"nonce"`
	} `json:"socket_addr"`
}

// OldClients asks each mon in quorum for its sessions.
func (c *conn) OldClients(ctx context.Context) ([]ceph.Client, error) {
	var status statusAnswer
	if err := c.ask(ctx, command{"prefix": "status"}, &status); err != nil {
		return nil, err
	}
	var clients []ceph.Client
	for _, mon := range status.QuorumNames {
		sessions, err := c.sessions(ctx, mon)
		if err != nil {
			return nil, err
		}
		clients = append(clients, oldClients(sessions)...)
	}
	slices.SortFunc(clients, func(a, b ceph.Client) int { return strings.Compare(a.User+a.Address, b.User+b.Address) })
	return slices.Compact(clients), nil
}

// ClientIDs finds itself among the sessions of each mon in quorum: who asks one mon by
// its name logs in to it once more, and gets another ID from it (src/mon/MonClient.cc).
func (c *conn) ClientIDs(ctx context.Context) (map[string]uint64, error) {
	var status statusAnswer
	if err := c.ask(ctx, command{"prefix": "status"}, &status); err != nil {
		return nil, err
	}
	own, err := call(ctx, c, "get the client ID", func() (uint64, error) { return c.rados.GetInstanceID(), nil })
	if err != nil {
		return nil, err
	}
	var (
		mu     sync.Mutex
		ids    = map[string]uint64{}
		asking errgroup.Group // at once: one that is slow leaves the others their time
	)
	for _, mon := range status.QuorumNames {
		asking.Go(func() error {
			sessions, err := c.sessions(ctx, mon)
			if err != nil {
				return err
			}
			mu.Lock()
			defer mu.Unlock()
			for _, s := range sessions {
				if s.ID != own && strings.HasSuffix(c.addrs, fmt.Sprintf("/%d", s.Socket.Nonce)) {
					ids[mon] = max(ids[mon], s.ID)
				}
			}
			if _, told := ids[mon]; !told {
				return ceph.Errorf(ceph.Unexpected, "sessions", "mon %s does not name the client that asks it", mon)
			}
			return nil
		})
	}
	return ids, asking.Wait()
}

func (c *conn) sessions(ctx context.Context, mon string) ([]monSession, error) {
	op, text, err := command{"prefix": "sessions", "format": "json"}.encode()
	if err != nil {
		return nil, err
	}
	return call(ctx, c, op, func() ([]monSession, error) {
		out, message, err := c.rados.MonCommandTarget(mon, [][]byte{text})
		if err != nil {
			return nil, explain(op+" of mon "+mon, message, err)
		}
		var sessions []monSession
		if err := json.Unmarshal(out, &sessions); err != nil {
			return nil, ceph.Errorf(ceph.Unexpected, op, "decode the answer of mon %s: %w", mon, err)
		}
		return sessions, nil
	})
}

func oldClients(sessions []monSession) (clients []ceph.Client) {
	for _, s := range sessions {
		if !strings.HasPrefix(s.Entity, "client.") || s.Socket.Type != "v1" { // a mgr is a client, too
			continue
		}
		host, _, err := net.SplitHostPort(s.Socket.Addr)
		if err != nil {
			host = s.Socket.Addr
		}
		clients = append(clients, ceph.Client{User: s.Entity, Address: host})
	}
	return clients
}
