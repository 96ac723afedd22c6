package upkeep

import (
	"context"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// sweepAge is how old a temporary snapshot without a clone is before it counts as
// left over: its clone may still be on the way.
const sweepAge = time.Hour

// sweep removes the temporary snapshots of an image that are of no more use.
func (u *Upkeep) sweep(ctx context.Context, cluster ceph.Block, t task) (time.Duration, error) {
	snapshots, err := cluster.ListSnapshots(ctx, t.image())
	if ceph.Is(err, ceph.NotFound) {
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	var again time.Duration
	for i := range snapshots {
		left, err := u.sweepOne(ctx, cluster, t, &snapshots[i])
		if err != nil {
			return 0, err
		}
		if left > 0 && (again == 0 || left < again) {
			again = left
		}
	}
	return again, nil
}

// sweepOne removes a snapshot if it is left over, or returns when to look again.
func (u *Upkeep) sweepOne(ctx context.Context, cluster ceph.Block, t task, s *ceph.SnapshotInfo) (time.Duration, error) {
	clone, temporary := strings.CutPrefix(s.Name, imagemeta.TemporaryPrefix)
	if !temporary {
		return 0, nil
	}
	exists, complete, err := findClone(ctx, cluster, t.root.Namespace, clone)
	if err != nil {
		return 0, err
	}
	age := u.now().Sub(s.Created)
	switch {
	case exists && !complete:
		return sweepAge, nil
	case !exists && age < sweepAge:
		return sweepAge - age, nil
	}
	if err := cluster.RemoveSnapshot(ctx, s.Ref); err != nil && !ceph.Is(err, ceph.NotFound) {
		return 0, err
	}
	klog.FromContext(ctx).Info("Removed a left-over snapshot", "snapshot", s.Name, "image", t.image().String(), "cluster", t.root.FSID)
	u.again(u.purgeOf(t.root.FSID, s.Ref))
	return 0, nil
}

// findClone looks for a clone in all pools, and whether its creation came to its end.
func findClone(ctx context.Context, cluster ceph.Block, namespace, name string) (exists, complete bool, err error) {
	pools, err := cluster.ImagePools(ctx)
	if err != nil {
		return false, false, err
	}
	for _, pool := range pools {
		info, err := cluster.ImageInfo(ctx, ceph.ImageRef{PoolID: pool.ID, Namespace: namespace, Name: name})
		if ceph.Is(err, ceph.NotFound) {
			continue
		}
		if err != nil {
			return false, false, err
		}
		return true, volumeid.ImageName(info.Metadata[imagemeta.Name]) == name, nil
	}
	return false, false, nil
}
