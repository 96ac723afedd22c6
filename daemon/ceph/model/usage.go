package model

import (
	"context"
	"maps"
	"slices"
	"strconv"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// defaultCapacity of a pool in bytes, after replication: see SetCapacity.
const defaultCapacity = 1 << 40

// SetCapacity changes how many bytes a pool can hold, after replication.
func (c *Cluster) SetCapacity(poolID, bytes int64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.capacity[poolID] = bytes
}

// PoolID returns the ID of a pool.
func (c *Cluster) PoolID(ctx context.Context, name string) (int64, error) {
	if err := c.enter(ctx, "PoolID"); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	id, ok := c.findPool(name)
	if !ok {
		return 0, ceph.Errorf(ceph.NotFound, "look up pool "+name, "no such pool")
	}
	return id, nil
}

// ImagePools returns the pools for images.
func (c *Cluster) ImagePools(ctx context.Context) ([]ceph.PoolName, error) {
	if err := c.enter(ctx, "ImagePools"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []ceph.PoolName
	for _, id := range slices.Sorted(maps.Keys(c.pools)) {
		if spec := c.pools[id].spec; spec.Application == "rbd" && spec.DataChunks == 0 {
			out = append(out, ceph.PoolName{ID: id, Name: spec.Name})
		}
	}
	return out, nil
}

// PoolUsage returns how full a pool is.
func (c *Cluster) PoolUsage(ctx context.Context, poolID int64) (*ceph.PoolUsage, error) {
	if err := c.enter(ctx, "PoolUsage"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	p, ok := c.pools[poolID]
	if !ok {
		return nil, ceph.Errorf(ceph.NotFound, "usage of pool "+strconv.FormatInt(poolID, 10), "no such pool")
	}
	id, err := c.dataPool("usage of pool "+p.spec.Name, poolID, p.spec.DataPool)
	if err != nil {
		id = poolID // it is gone: to make an image says so
	}
	available := c.available(id)
	return &ceph.PoolUsage{Name: p.spec.Name, DataPool: p.spec.DataPool, Stored: c.stored(id), Quota: c.pools[id].spec.QuotaBytes, Available: available, Full: available == 0}, nil
}

// available bytes of a pool, under its capacity and its quota.
func (c *Cluster) available(poolID int64) int64 {
	p, limit := c.pools[poolID], int64(defaultCapacity)
	if capacity, ok := c.capacity[poolID]; ok {
		limit = capacity
	}
	if p.spec.QuotaBytes > 0 {
		limit = min(limit, p.spec.QuotaBytes)
	}
	return max(0, limit-c.stored(poolID))
}

// stored bytes of a pool: a block that images and snapshots share counts once.
func (c *Cluster) stored(poolID int64) int64 {
	blocks := map[*byte]struct{}{}
	for _, p := range c.pools {
		for _, data := range p.images {
			if data.dataPool != poolID {
				continue
			}
			data.blocks.collect(blocks)
			for _, snap := range data.snaps {
				snap.blocks.collect(blocks)
			}
		}
	}
	return int64(len(blocks)) * blockSize
}
