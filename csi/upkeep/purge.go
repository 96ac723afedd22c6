package upkeep

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// scan queues the hidden images of a root; those that wait already keep their turn.
func (u *Upkeep) scan(ctx context.Context, cluster ceph.Block, root places.Root) error {
	hidden, err := places.HiddenNames(ctx, cluster, root)
	for _, name := range hidden {
		if t := (task{purge, root, name}); !u.waits(t) {
			u.quick.Add(t)
		}
	}
	return err
}

// purge removes a hidden image that nobody has open and that has neither
// snapshots nor clones: Ceph itself refuses any other. Then its parent may follow.
func (u *Upkeep) purge(ctx context.Context, cluster ceph.Block, t task) (time.Duration, error) {
	info, err := cluster.ImageInfo(ctx, t.image())
	if ceph.Is(err, ceph.NotFound) {
		// A removal that was cut off leaves the name of what is gone.
		if err := cluster.RemoveImage(ctx, t.image()); err != nil && !ceph.Is(err, ceph.NotFound) {
			return 0, err
		}
		return 0, nil
	}
	if err != nil {
		return 0, err
	}
	if err := u.forgetKey(ctx, cluster, t, info); err != nil {
		return 0, err
	}
	err = cluster.RemoveImage(ctx, t.image())
	switch {
	case ceph.Is(err, ceph.Busy):
		u.wait(ctx, t, u.whyBusy(ctx, cluster, t, info, err))
		return soon, nil
	case err != nil && !ceph.Is(err, ceph.NotFound):
		return 0, err
	}
	klog.FromContext(ctx).Info("Purged", "image", t.image().String(), "cluster", t.root.FSID)
	u.metrics.purged.Inc()
	if info.Parent != nil {
		u.again(u.purgeOf(t.root.FSID, *info.Parent))
	}
	return 0, nil
}

// forgetKey ends the key of an encrypted image before the image itself, which has
// the key's record, is gone: what the image leaves on the disks is unreadable from
// then on. Snapshots of it need the key to be cloned; clones have keys of their own.
func (u *Upkeep) forgetKey(ctx context.Context, cluster ceph.Block, t task, info *ceph.ImageInfo) error {
	record := info.Metadata[kms.MetadataKey]
	if u.Forget == nil || record == "" || len(info.Watchers) > 0 {
		return nil
	}
	snapshots, err := cluster.ListSnapshots(ctx, t.image())
	if err != nil || len(snapshots) > 0 {
		return err
	}
	return u.Forget(ctx, record)
}

// whyBusy says what an image waits for, and has left-over snapshots removed.
func (u *Upkeep) whyBusy(ctx context.Context, cluster ceph.Block, t task, info *ceph.ImageInfo, busy error) string {
	if len(info.Watchers) > 0 {
		return "open at " + strings.Join(info.Watchers, ", ")
	}
	snapshots, err := cluster.ListSnapshots(ctx, t.image())
	switch {
	case err != nil:
		return busy.Error()
	case len(snapshots) == 0:
		return "clones of it live on"
	case slices.ContainsFunc(snapshots, temporary):
		u.quick.Add(task{sweep, t.root, t.name})
	}
	return fmt.Sprintf("it has %d snapshots", len(snapshots))
}

// temporary reports whether a snapshot was made to clone a volume.
func temporary(s ceph.SnapshotInfo) bool {
	return strings.HasPrefix(s.Name, imagemeta.TemporaryPrefix)
}
