package upkeep

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// manySnapshots is an image that has as many snapshots as the soft limit, or more.
type manySnapshots struct {
	imageID string
	count   int
}

// Snapshotted says that an image got a snapshot: its snapshots are counted, not
// at the expense of the call that made it.
func (u *Upkeep) Snapshotted(fsid string, image ceph.ImageRef) {
	if u != nil {
		u.quick.AddAfter(task{count, rootOf(fsid, image), image.Name}, countDelay)
	}
}

// countDelay joins the counts that a series of snapshots would ask for.
const countDelay = retryStart

// Snapshots returns how many snapshots an image had when they were last counted;
// zero while they are fewer than the soft limit.
func (u *Upkeep) Snapshots(fsid string, image ceph.ImageRef) int {
	if u == nil {
		return 0
	}
	u.mu.Lock()
	defer u.mu.Unlock()
	return u.many[task{count, rootOf(fsid, image), image.Name}].count
}

func (u *Upkeep) count(ctx context.Context, cluster ceph.Block, t task) error {
	snapshots, err := cluster.ListSnapshots(ctx, t.image())
	if err != nil && !ceph.Is(err, ceph.NotFound) {
		return err
	}
	u.counted(ctx, t, snapshots)
	return nil
}

func (u *Upkeep) counted(ctx context.Context, t task, snapshots []ceph.SnapshotInfo) {
	u.mu.Lock()
	_, before := u.many[t]
	delete(u.many, t)
	now := len(snapshots) >= u.limits.SoftSnapshots
	if now {
		u.many[t] = manySnapshots{snapshots[0].Ref.ImageID, len(snapshots)}
	}
	u.mu.Unlock()
	if now && !before {
		klog.FromContext(ctx).Info("An image has many snapshots", "image", t.image().String(), "cluster", t.root.FSID,
			"snapshots", len(snapshots), "refused from", u.limits.HardSnapshots)
	}
}

// recount counts anew where an image with many snapshots lost one.
func (u *Upkeep) recount(fsid string, s ceph.SnapshotRef) {
	u.mu.Lock()
	defer u.mu.Unlock()
	for t, many := range u.many {
		if t.root.FSID == fsid && t.root.PoolID == s.PoolID && many.imageID == s.ImageID {
			u.many[t] = manySnapshots{many.imageID, many.count - 1}
			u.quick.AddAfter(t, countDelay)
		}
	}
}
