package controller

import (
	"context"
	"sync"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// usageAge is how old a pool's usage may be: a thousand claims are not a
// thousand questions to the mons.
const usageAge = 5 * time.Second

// usages keeps what was last known of pools.
type usages struct {
	mu    sync.Mutex
	pools map[poolKey]*poolUsage
}

type poolKey struct {
	fsid string
	pool int64
}

// poolUsage is that of one pool. Its lock is a channel, so that who waits for it
// can give up.
type poolUsage struct {
	lock  chan struct{}
	usage *ceph.PoolUsage
	asked time.Time
}

func (u *usages) of(key poolKey) *poolUsage {
	u.mu.Lock()
	defer u.mu.Unlock()
	if u.pools == nil {
		u.pools = map[poolKey]*poolUsage{}
	}
	p := u.pools[key]
	if p == nil {
		p = &poolUsage{lock: make(chan struct{}, 1)}
		u.pools[key] = p
	}
	return p
}

func (u *usages) get(ctx context.Context, cluster ceph.Block, key poolKey) (*ceph.PoolUsage, error) {
	p := u.of(key)
	step.Enter(ctx, "ask how full the pool is")
	select {
	case p.lock <- struct{}{}:
	case <-ctx.Done():
		return nil, &ceph.Error{Kind: ceph.Timeout, Op: "wait for the pool's usage", Err: ctx.Err()}
	}
	defer func() { <-p.lock }()
	if p.usage != nil && time.Since(p.asked) < usageAge {
		return p.usage, nil
	}
	usage, err := cluster.PoolUsage(ctx, key.pool)
	if err != nil {
		return nil, err
	}
	p.usage, p.asked = usage, time.Now()
	return usage, nil
}

// room refuses what a pool has no room for. Volumes are thin: together they may
// be larger than what is free, but none may be larger than what the quota leaves. It
// returns the pool that is to hold the data.
func (s *Server) room(ctx context.Context, cluster ceph.Block, fsid string, pool, size int64) (dataPool string, err error) {
	usage, err := s.usages.get(ctx, cluster, poolKey{fsid, pool})
	if err != nil {
		return "", err
	}
	if usage.Full {
		return "", fault.Errorf(fault.Exhausted, "pool %s is full: it stores %d bytes, has room for %d and a quota of %d (0: none)",
			usage.Name, usage.Stored, usage.Available, usage.Quota)
	}
	if left := usage.Quota - usage.Stored; usage.Quota > 0 && size > left {
		return "", fault.Field(fault.Exhausted, "capacity_range", "%d bytes are more than the %d that the quota of pool %s leaves: it stores %d of %d",
			size, max(left, 0), usage.Name, usage.Stored, usage.Quota)
	}
	return usage.DataPool, nil
}

// GetCapacity says how much room there is for volumes of a StorageClass.
func (s *Server) GetCapacity(ctx context.Context, req *csi.GetCapacityRequest) (*csi.GetCapacityResponse, error) {
	var wants []capability.Want
	if len(req.GetVolumeCapabilities()) > 0 {
		var err error
		if wants, err = capability.ParseAll(req.GetVolumeCapabilities()); err != nil {
			return nil, err
		}
	}
	if len(req.GetParameters()) == 0 {
		return &csi.GetCapacityResponse{}, nil // of no cluster
	}
	p, err := parseParameters(req.GetParameters())
	if err != nil {
		return nil, err
	}
	if at := req.GetAccessibleTopology(); at != nil && !p.Topology.reaches(at) {
		return &csi.GetCapacityResponse{MaximumVolumeSize: wrapperspb.Int64(0)}, nil
	}
	var usage *ceph.PoolUsage
	err = s.Clusters.Do(ctx, p.FSID, func(cluster ceph.Block) error {
		pool, err := poolID(ctx, cluster, p.Pool)
		if err != nil {
			return err
		}
		usage, err = s.usages.get(ctx, cluster, poolKey{p.FSID, pool})
		return err
	})
	if err != nil {
		return nil, err
	}
	available := max(usage.Available, 0) / mebibyte * mebibyte
	if usage.Full {
		available = 0
	}
	return &csi.GetCapacityResponse{
		AvailableCapacity: available,
		MaximumVolumeSize: wrapperspb.Int64(min(available, largest)),
		MinimumVolumeSize: wrapperspb.Int64(leastOf(wants)),
	}, nil
}
