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

// SetOldClients has clients be connected by version 1 of the messenger.
func (c *Cluster) SetOldClients(clients ...ceph.Client) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.old = clients
}
