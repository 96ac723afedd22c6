package fuse

import (
	"context"
	"errors"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// connections are the data path's connections. All volumes of the node share
// them: fencing is by node.
type connections struct {
	mu    sync.Mutex
	open  map[connection]*connected
	stale []*connected // set aside: their images are open still
	// left are the addresses of dead processes that are not fenced yet, by cluster.
	left map[string][]string
}

// leave notes a dead process's addresses: its locks hold until it is fenced.
func (c *connections) leave(fsid, addrs string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if c.left == nil {
		c.left = map[string][]string{}
	}
	if !slices.Contains(c.left[fsid], addrs) {
		c.left[fsid] = append(c.left[fsid], addrs)
	}
}

// connection tells one from another.
type connection struct {
	credentials ceph.Credentials
	// shared is for images that other nodes write to as well: nothing is cached.
	shared bool
	// near is where the connection reads from; empty is the primaries.
	near string
}

type connected struct {
	ceph.Conn
	name        string
	made        time.Time
	credentials ceph.Credentials
}

// client is what the keeper has of a connection: who must be fenced before what it
// had open is opened again.
type client struct {
	BootID string `json:"bootID"`
	Addrs  string `json:"addrs"`
}

const (
	// clientPrefix is before volumePrefix in the order of names: a keeper that has a volume
	// knows who must be fenced before it is opened again.
	clientPrefix = "client-"
	// connectTimeout bounds a connection's making; what runs over it is not bounded.
	connectTimeout = time.Minute
)

// connect returns the connection for some credentials.
func (a *Attacher) connect(ctx context.Context, want connection) (ceph.Conn, error) {
	step.Enter(ctx, "connect to cluster "+want.credentials.FSID)
	a.conns.mu.Lock()
	defer a.conns.mu.Unlock()
	if conn := a.conns.open[want]; conn != nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	// No timeouts: where an operation must wait, an error would be a lost write.
	options := ceph.ConnectOptions{Near: want.near}
	if want.shared {
		options.Config = map[string]string{"rbd_cache": "false"}
	}
	conn, err := a.Connector.Connect(ctx, want.credentials, options)
	if err != nil {
		return nil, err
	}
	for _, addrs := range a.conns.left[want.credentials.FSID] {
		if err := conn.Blocklist(ctx, addrs, fenceFor); err != nil {
			return nil, errors.Join(err, conn.Close())
		}
	}
	delete(a.conns.left, want.credentials.FSID)
	made := &connected{conn, clientPrefix + uuid.NewString(), time.Now(), want.credentials}
	if err := a.keepClient(ctx, made, want.credentials); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	if a.conns.open == nil {
		a.conns.open = map[connection]*connected{}
	}
	a.conns.open[want] = made
	return made, nil
}

// keepClient hands over who must be fenced when this process dies, before it has
// anything open.
func (a *Attacher) keepClient(ctx context.Context, conn *connected, credentials ceph.Credentials) error {
	if a.Keeper == nil {
		return nil
	}
	file, err := keep(secrets{Credentials: credentials})
	if err != nil {
		return err
	}
	err = a.Keeper.Put(ctx, conn.name, client{durable.BootID(), conn.ClientAddrs()}, file)
	if err != nil {
		return errors.Join(err, file.Close())
	}
	return nil
}

// refreshAfter bounds how many connections are made for what is refused for good.
const refreshAfter = 30 * time.Second

// old reports whether another connection may be let do more than this one.
func (a *Attacher) old(which connection) bool {
	a.conns.mu.Lock()
	defer a.conns.mu.Unlock()
	conn := a.conns.open[which]
	return conn != nil && time.Since(conn.made) > refreshAfter
}

// setAside makes the next volume connect anew. A connection that was fenced stays
// open: its images do.
func (a *Attacher) setAside(which connection) {
	a.conns.mu.Lock()
	defer a.conns.mu.Unlock()
	if conn := a.conns.open[which]; conn != nil {
		a.conns.stale = append(a.conns.stale, conn)
	}
	delete(a.conns.open, which)
}

// disconnect ends all connections, once no image is open.
func (a *Attacher) disconnect(ctx context.Context) {
	a.conns.mu.Lock()
	defer a.conns.mu.Unlock()
	conns := a.conns.stale
	for _, conn := range a.conns.open {
		conns = append(conns, conn)
	}
	for _, conn := range conns {
		err := conn.Close()
		if err == nil && a.Keeper != nil {
			err = a.Keeper.Drop(ctx, conn.name)
		}
		if err != nil {
			klog.ErrorS(err, "A connection did not end cleanly")
		}
	}
	a.conns.open, a.conns.stale = nil, nil
}
