package model

import (
	"context"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// OldClients returns those that were set.
func (c *Cluster) OldClients(ctx context.Context) ([]ceph.Client, error) {
	if err := c.enter(ctx, "OldClients"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	return slices.Clone(c.old), nil
}

// ClientIDs returns those that were set; without any, each mon has a range of its own.
func (c *Cluster) ClientIDs(ctx context.Context) (map[string]uint64, error) {
	if err := c.enter(ctx, "ClientIDs"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	ids := map[string]uint64{}
	var failed error
	for i, mon := range c.quorum {
		id, set := c.ids[mon]
		switch {
		case set:
			ids[mon] = id
		case c.ids != nil:
			failed = ceph.Errorf(ceph.Unreached, "sessions", "mon %s is unavailable", mon)
		default:
			c.asked++
			ids[mon] = uint64(i+1)<<40 + c.asked
		}
	}
	return ids, failed
}

// SetClientIDs says which ID each mon gives next; one that is not named has none to give.
func (c *Cluster) SetClientIDs(ids map[string]uint64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.ids = ids
}

// SetOldClients has clients be connected by version 1 of the messenger.
func (c *Cluster) SetOldClients(clients ...ceph.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old = clients
}
