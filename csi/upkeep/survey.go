package upkeep

import (
	"context"
	"errors"
	"slices"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// surveys looks at all images: at once, for what an earlier process left behind,
// and now and then.
func (u *Upkeep) surveys(ctx context.Context) {
	retry := retryStart
	for ctx.Err() == nil {
		next := surveyEvery
		if err := u.Survey(ctx); err != nil && ctx.Err() == nil {
			klog.FromContext(ctx).Info("Not all images could be looked at", "reason", err.Error(), "again in", retry)
			next, retry = retry, min(2*retry, retryMax)
		} else {
			retry = retryStart
		}
		timer := time.NewTimer(next)
		select {
		case <-ctx.Done():
		case <-timer.C:
		}
		timer.Stop()
	}
}

// Survey queues what is to be done in all places that the driver works in. A
// cluster that does not answer does not keep the others from being looked at.
func (u *Upkeep) Survey(ctx context.Context) error {
	list, err := u.places.Places(ctx)
	if err != nil {
		return err
	}
	clusters := map[string]places.Static{}
	for _, p := range list {
		clusters[p.FSID] = append(clusters[p.FSID], p)
	}
	var failed []error
	for _, of := range clusters {
		failed = append(failed, u.surveyCluster(ctx, of))
	}
	return errors.Join(failed...)
}

// surveyCluster queues hidden images of all roots first: those are many, and found
// with few questions.
func (u *Upkeep) surveyCluster(ctx context.Context, of places.Static) error {
	roots, err := places.Roots(ctx, of, u.clusters)
	if err != nil {
		return err
	}
	for _, root := range roots {
		u.Hidden(root)
	}
	for _, root := range roots {
		err := u.clusters.Do(ctx, root.FSID, func(cluster ceph.Block) error {
			return places.Names(ctx, cluster, root, "", func(name string) (bool, error) {
				return true, u.inspect(ctx, cluster, root, name)
			})
		})
		if err != nil {
			return err
		}
	}
	return nil
}

// inspect looks at one image for what calls would have left behind.
func (u *Upkeep) inspect(ctx context.Context, cluster ceph.Block, root places.Root, name string) error {
	image := root.Image(name)
	snapshots, err := cluster.ListSnapshots(ctx, image)
	if ceph.Is(err, ceph.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	u.counted(ctx, task{count, root, name}, snapshots)
	if slices.ContainsFunc(snapshots, temporary) {
		u.quick.Add(task{sweep, root, name})
	}
	if imagemeta.Hidden(name) {
		return nil
	}
	info, err := cluster.ImageInfo(ctx, image)
	if ceph.Is(err, ceph.NotFound) {
		return nil
	}
	if err == nil && imagemeta.DepthOf(info) > u.limits.SoftDepth {
		u.Deep(root.FSID, image)
	}
	return err
}
