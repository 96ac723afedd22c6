package rados

import (
	"context"
	"slices"
	"strconv"
	"strings"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

type usageAnswer struct {
	Stats struct {
		Available int64 `json:"total_avail_bytes"`
	} `json:"stats"`
	Pools []struct {
		ID    int64 `json:"id"`
		Stats struct {
			Stored   int64 `json:"stored"`
			MaxAvail int64 `json:"max_avail"`
		} `json:"stats"`
	} `json:"pools"`
}

type flagsAnswer []poolFlags

type poolFlags struct {
	ID           int64        `json:"pool_id"`
	Name         string       `json:"pool_name"`
	Type         int          `json:"type"`
	Size         int64        `json:"size"`
	Quota        int64        `json:"quota_max_bytes"`
	Flags        string       `json:"flags_names"`
	Applications applications `json:"application_metadata"`
}

// PoolUsage returns how full a pool is.
func (c *conn) PoolUsage(ctx context.Context, poolID int64) (*ceph.PoolUsage, error) {
	var df usageAnswer
	if err := c.ask(ctx, command{"prefix": "df", "detail": "detail"}, &df); err != nil {
		return nil, err
	}
	var pools flagsAnswer
	if err := c.ask(ctx, command{"prefix": "osd pool ls", "detail": "detail"}, &pools); err != nil {
		return nil, err
	}
	usage := usageOf(poolID, &df, pools)
	if usage == nil {
		return nil, ceph.Errorf(ceph.NotFound, "usage of pool "+strconv.FormatInt(poolID, 10), "no such pool")
	}
	return usage, nil
}

// usageOf returns how full a pool is: that which holds its images' data, if there is one.
func usageOf(poolID int64, df *usageAnswer, pools flagsAnswer) *ceph.PoolUsage {
	at := slices.IndexFunc(pools, func(pool poolFlags) bool { return pool.ID == poolID })
	if at < 0 {
		return nil
	}
	own := pools[at].usage(df)
	name := pools[at].Applications.dataPool()
	if at = slices.IndexFunc(pools, func(pool poolFlags) bool { return pool.Name == name }); at < 0 {
		own.DataPool = name // which is gone: to make an image says so
		return own
	}
	usage := pools[at].usage(df)
	usage.Name, usage.DataPool, usage.Full = own.Name, name, usage.Full || own.Full
	return usage
}

func (pool *poolFlags) usage(df *usageAnswer) *ceph.PoolUsage {
	usage := &ceph.PoolUsage{Name: pool.Name, Quota: pool.Quota, Available: df.Stats.Available / max(1, pool.Size)}
	for _, known := range df.Pools { // a pool that was just made is not there yet: it can hold as much at least
		if known.ID == pool.ID {
			usage.Stored, usage.Available = known.Stats.Stored, known.Stats.MaxAvail
		}
	}
	if usage.Quota > 0 {
		usage.Available = max(0, min(usage.Available, usage.Quota-usage.Stored))
	}
	set := strings.Split(pool.Flags, ",")
	usage.Full = slices.Contains(set, "full") || slices.Contains(set, "full_quota")
	return usage
}

// ImagePools returns the pools that this client may keep images in, by ID: of
// those for RBD, the ones that it may read.
func (c *conn) ImagePools(ctx context.Context) ([]ceph.PoolName, error) {
	var pools flagsAnswer
	if err := c.ask(ctx, command{"prefix": "osd pool ls", "detail": "detail"}, &pools); err != nil {
		return nil, err
	}
	var out []ceph.PoolName
	for _, pool := range pools {
		if _, ok := pool.Applications["rbd"]; !ok || pool.Type == erasureCoded {
			continue
		}
		_, err := in(ctx, c, "look into pool "+pool.Name, pool.ID, "", func(ioctx *rados.IOContext) (rados.ObjectStat, error) {
			return ioctx.Stat(directoryObject)
		})
		switch {
		case err == nil, ceph.Is(err, ceph.NotFound):
			out = append(out, ceph.PoolName{ID: pool.ID, Name: pool.Name})
		case !ceph.Is(err, ceph.Forbidden):
			return nil, err
		}
	}
	slices.SortFunc(out, func(a, b ceph.PoolName) int { return int(a.ID - b.ID) })
	return out, nil
}
