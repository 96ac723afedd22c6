package upkeep

import (
	"context"
	"strconv"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// flatten makes a clone that is too deep stand alone. What its metadata says of
// its depth is an upper bound: a parent may have been flattened since.
func (u *Upkeep) flatten(ctx context.Context, cluster ceph.Block, t task) error {
	info, err := cluster.ImageInfo(ctx, t.image())
	if ceph.Is(err, ceph.NotFound) {
		return nil
	}
	if err != nil || imagemeta.DepthOf(info) <= u.limits.SoftDepth {
		return err
	}
	depth, err := trueDepth(ctx, cluster, info)
	if err != nil {
		return err
	}
	if depth <= u.limits.SoftDepth {
		return cluster.SetImageMetadata(ctx, t.image(), map[string]string{imagemeta.Depth: strconv.Itoa(depth)})
	}
	logger := klog.FromContext(ctx).WithValues("image", t.image().String(), "cluster", t.root.FSID, "depth", depth)
	logger.Info("Flattening")
	defer u.metrics.progress.DeleteLabelValues(t.name)
	tenths := uint64(0)
	err = cluster.FlattenImage(ctx, t.image(), func(done, total uint64) {
		if total == 0 {
			return
		}
		u.metrics.progress.WithLabelValues(t.name).Set(float64(done) / float64(total))
		if now := done * 10 / total; now != tenths {
			tenths = now
			logger.Info("Flattening", "objects", done, "of", total)
		}
	})
	if ceph.Is(err, ceph.NotFound) {
		return nil
	}
	if err != nil {
		return err
	}
	logger.Info("Flattened")
	u.metrics.flattened.Inc()
	u.again(u.purgeOf(t.root.FSID, *info.Parent))
	return nil
}

// trueDepth counts an image's parents. Where one cannot be found any more, what
// the image's metadata says counts.
func trueDepth(ctx context.Context, cluster ceph.Block, info *ceph.ImageInfo) (int, error) {
	for depth := 0; ; depth++ {
		if info.Parent == nil {
			return depth, nil
		}
		parent, err := parentOf(ctx, cluster, info)
		if ceph.Is(err, ceph.NotFound) {
			return depth + imagemeta.DepthOf(info), nil
		}
		if err != nil {
			return 0, err
		}
		info = parent
	}
}

// parentOf looks at the image that a clone was made of: by its snapshot; when that
// was removed, as a hidden image; else as the volume that was cloned.
func parentOf(ctx context.Context, cluster ceph.Block, info *ceph.ImageInfo) (*ceph.ImageInfo, error) {
	snapshot, err := cluster.Snapshot(ctx, *info.Parent)
	if err == nil {
		return cluster.ImageInfo(ctx, ceph.ImageRef{PoolID: snapshot.Ref.PoolID, Namespace: snapshot.Ref.Namespace, Name: snapshot.Image})
	}
	if !ceph.Is(err, ceph.NotFound) {
		return nil, err
	}
	hidden := ceph.ImageRef{PoolID: info.Parent.PoolID, Namespace: info.Parent.Namespace, Name: ceph.HiddenPrefix + info.Parent.ImageID}
	parent, err := cluster.ImageInfo(ctx, hidden)
	if !ceph.Is(err, ceph.NotFound) {
		return parent, err
	}
	source, parseErr := volumeid.Parse(info.Metadata[imagemeta.Source])
	if parseErr != nil {
		return nil, err
	}
	parent, err = cluster.ImageInfo(ctx, source.Image)
	if err == nil && parent.ID != info.Parent.ImageID {
		return nil, ceph.Errorf(ceph.NotFound, "look at the parent "+info.Parent.String(), "another volume has its name now")
	}
	return parent, err
}
