package model

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// conn is one client of the cluster.
type conn struct {
	*Cluster
	addrs string
}

func (c *conn) ClientAddrs() string { return c.addrs }

func (c *conn) Close() error { return nil }

// Blocklist fences a client: its writes fail, and what it has open no longer
// counts as open.
func (c *Cluster) Blocklist(ctx context.Context, addrs string, expire time.Duration) error {
	if err := c.enter(ctx, "Blocklist"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for _, addr := range strings.Split(addrs, ",") {
		c.blocked[addr] = time.Now().Add(expire)
		for _, p := range c.pools {
			for _, data := range p.images {
				data.drop(addr)
			}
		}
	}
	return nil
}

// Blocklisted returns the addresses that are fenced now.
func (c *Cluster) Blocklisted() (addrs []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for addr := range c.blocked {
		if c.fenced(addr) {
			addrs = append(addrs, addr)
		}
	}
	slices.Sort(addrs)
	return addrs
}

func (c *Cluster) fenced(addr string) bool { return time.Now().Before(c.blocked[addr]) }

// drop forgets what a client has open.
func (d *imageData) drop(addr string) {
	for opened, by := range d.watchers {
		if by != addr {
			continue
		}
		delete(d.watchers, opened)
		if d.owner == opened {
			d.owner = nil
		}
	}
}

func notFenced(op string, c *Cluster, addr string) error {
	if c.fenced(addr) {
		return ceph.Errorf(ceph.Fenced, op, "client %s is blocklisted", addr)
	}
	return nil
}
