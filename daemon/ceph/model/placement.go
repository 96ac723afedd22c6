package model

import (
	"context"
	"maps"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// pgs of every pool.
const pgs = 32

// Placement returns where the data is: on OSDs in turn. The model has no CRUSH map.
func (c *Cluster) Placement(ctx context.Context) (*ceph.Placement, error) {
	if err := c.enter(ctx, "Placement"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	p := &ceph.Placement{In: map[int]float64{}, Up: map[int]bool{}, Pools: map[int64]ceph.PlacedPool{}}
	var in []int
	for _, osd := range c.osds {
		p.Up[osd.ID], p.In[osd.ID] = osd.Up, 0
		if osd.In {
			p.In[osd.ID] = 1
			in = append(in, osd.ID)
		}
	}
	for _, id := range slices.Sorted(maps.Keys(c.pools)) {
		pool := c.pools[id]
		p.Pools[id] = ceph.PlacedPool{Name: pool.spec.Name, Size: pool.spec.Size, Targets: pgs, Replicated: pool.spec.DataChunks == 0}
		for seed := range pgs {
			pg := ceph.PG{Pool: id, Seed: seed, Bytes: c.stored(id) / pgs}
			for i := range min(len(in), pool.spec.Size) {
				pg.OSDs = append(pg.OSDs, in[(seed+i)%len(in)])
			}
			p.PGs = append(p.PGs, pg)
		}
	}
	return p, nil
}
