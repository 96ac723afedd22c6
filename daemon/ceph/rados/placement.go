package rados

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// placementAnswer is the part of `osd dump` that placement follows from.
type placementAnswer struct {
	OSDs []struct {
		OSD    int     `json:"osd"`
		Up     int     `json:"up"`
		Weight float64 `json:"weight"`
	} `json:"osds"`
	Pools []struct {
		ID      int64  `json:"pool"`
		Name    string `json:"pool_name"`
		Type    int    `json:"type"` // 1 is replicated
		Size    int    `json:"size"`
		Rule    int    `json:"crush_rule"`
		Targets int    `json:"pg_placement_num"`
	} `json:"pools"`
	Upmaps []struct {
		PG       string `json:"pgid"`
		Mappings []struct {
			From int `json:"from"`
			To   int `json:"to"`
		} `json:"mappings"`
	} `json:"pg_upmap_items"`
}

type pgsAnswer struct {
	PGs []struct {
		PG   string `json:"pgid"`
		Up   []int  `json:"up"`
		Stat struct {
			Bytes int64 `json:"num_bytes"`
		} `json:"stat_sum"`
	} `json:"pg_stats"`
}

// Placement returns where the cluster keeps its data, and by what rules.
func (c *conn) Placement(ctx context.Context) (*ceph.Placement, error) {
	var (
		dump placementAnswer
		pgs  pgsAnswer
	)
	if err := c.ask(ctx, command{"prefix": "osd dump"}, &dump); err != nil {
		return nil, err
	}
	if err := c.ask(ctx, command{"prefix": "pg dump", "dumpcontents": []string{"pgs"}}, &pgs); err != nil {
		return nil, err
	}
	crush, err := c.mon(ctx, command{"prefix": "osd getcrushmap"}, nil)
	if err != nil {
		return nil, err
	}
	return placed(crush, &dump, &pgs)
}

func placed(crush []byte, dump *placementAnswer, pgs *pgsAnswer) (*ceph.Placement, error) {
	p := &ceph.Placement{CRUSH: crush, In: map[int]float64{}, Up: map[int]bool{}, Pools: map[int64]ceph.PlacedPool{}}
	for _, osd := range dump.OSDs {
		p.In[osd.OSD], p.Up[osd.OSD] = osd.Weight, osd.Up == 1
	}
	for _, pool := range dump.Pools {
		p.Pools[pool.ID] = ceph.PlacedPool{Name: pool.Name, Size: pool.Size, Rule: pool.Rule, Targets: pool.Targets, Replicated: pool.Type == 1}
	}
	upmaps := map[string][][2]int{}
	for _, upmap := range dump.Upmaps {
		for _, m := range upmap.Mappings {
			upmaps[upmap.PG] = append(upmaps[upmap.PG], [2]int{m.From, m.To})
		}
	}
	for _, pg := range pgs.PGs {
		pool, seed, err := parsePG(pg.PG)
		if err != nil {
			return nil, err
		}
		p.PGs = append(p.PGs, ceph.PG{Pool: pool, Seed: seed, Bytes: pg.Stat.Bytes, OSDs: pg.Up, Upmaps: upmaps[pg.PG]})
	}
	return p, nil
}

// parsePG reads a PG's name: the pool's number and the seed in hexadecimal, as in 2.1f.
func parsePG(name string) (pool int64, seed int, err error) {
	number, hex, _ := strings.Cut(name, ".")
	pool, err = strconv.ParseInt(number, 10, 64)
	if err != nil {
		return 0, 0, ceph.Errorf(ceph.Unexpected, "pg dump", "PG %q: %w", name, err)
	}
	parsed, err := strconv.ParseInt(hex, 16, 32)
	if err != nil {
		return 0, 0, ceph.Errorf(ceph.Unexpected, "pg dump", "PG %q: %w", name, fmt.Errorf("seed: %w", err))
	}
	return pool, int(parsed), nil
}
