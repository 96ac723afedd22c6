package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// source is what a volume begins as: a snapshot or another volume.
type source struct {
	code     string
	field    string // of the request
	snapshot *ceph.SnapshotRef
	volume   *ceph.ImageRef
}

// id of the source, empty for none.
func (s *source) id() string {
	if s == nil {
		return ""
	}
	return s.code
}

// content is the source as a volume says it.
func (s *source) content() *csi.VolumeContentSource {
	switch {
	case s == nil:
		return nil
	case s.snapshot != nil:
		return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: s.code}}}
	}
	return &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: s.code}}}
}

// parseSource reads a volume_content_source. A clone shares its parent's data: it
// must be in the same cluster, and does not leave its RADOS namespace.
func (p Parameters) parseSource(given *csi.VolumeContentSource) (*source, error) {
	if given == nil {
		return nil, nil
	}
	var s source
	var fsid, namespace string
	switch t := given.GetType().(type) {
	case *csi.VolumeContentSource_Snapshot:
		s.code, s.field = t.Snapshot.GetSnapshotId(), "volume_content_source.snapshot.snapshot_id"
		id, err := parseSnapshotID(s.code, s.field)
		if err != nil {
			return nil, err
		}
		s.snapshot, fsid, namespace = &id.Snapshot, id.FSID, id.Snapshot.Namespace
	case *csi.VolumeContentSource_Volume:
		s.code, s.field = t.Volume.GetVolumeId(), "volume_content_source.volume.volume_id"
		id, err := parseVolumeID(s.code, s.field)
		if err != nil {
			return nil, err
		}
		s.volume, fsid, namespace = &id.Image, id.FSID, id.Image.Namespace
	default:
		return nil, fault.Field(fault.Invalid, "volume_content_source", "is neither a snapshot nor a volume")
	}
	if fsid != p.FSID {
		return nil, fault.Field(fault.Invalid, s.field, "is of cluster %s, the volume is asked for in cluster %s: a volume is made from a source in its own cluster only", fsid, p.FSID)
	}
	if namespace != p.Namespace {
		return nil, fault.Field(fault.Invalid, s.field, "is of RADOS namespace %q, the volume is asked for in %q: a volume is made from a source in its own namespace only", namespace, p.Namespace)
	}
	return &s, nil
}

// makeFromSource makes the image as a clone. When the source is gone, a volume
// that an earlier call completed still counts.
func (s *Server) makeFromSource(ctx context.Context, cluster ceph.Block, c *creation, ref ceph.ImageRef) (int64, error) {
	image, info, size, err := c.source.find(ctx, cluster)
	if ceph.Is(err, ceph.NotFound) {
		return c.orExisting(ctx, cluster, ref, fault.Field(fault.NotFound, c.source.field, "is not there: %w", err))
	}
	if err != nil {
		return 0, err
	}
	if err := c.fit(size); err != nil {
		return 0, err
	}
	of := clone{depth: imagemeta.DepthOf(info) + 1}
	if of.depth > s.Upkeep.Limits().HardDepth {
		s.Upkeep.Deep(c.FSID, image)
		return c.orExisting(ctx, cluster, ref, fault.Field(fault.Pending, c.source.field,
			"%s is %d clones deep already, which is the limit: it is being flattened, the volume is made after that", image, of.depth-1))
	}
	if c.source.snapshot != nil {
		of.parent = *c.source.snapshot
		return s.cloneImage(ctx, cluster, c, ref, of, info)
	}
	return s.cloneVolume(ctx, cluster, c, ref, of, info)
}

// find returns the image that the source is, or is a snapshot of, and the
// source's size.
func (s *source) find(ctx context.Context, cluster ceph.Block) (ceph.ImageRef, *ceph.ImageInfo, int64, error) {
	step.Enter(ctx, "look at source "+s.code)
	if s.volume != nil {
		info, err := cluster.ImageInfo(ctx, *s.volume)
		if err != nil {
			return ceph.ImageRef{}, nil, 0, err
		}
		return *s.volume, info, info.Size, nil
	}
	snapshot, err := cluster.Snapshot(ctx, *s.snapshot)
	if err != nil {
		return ceph.ImageRef{}, nil, 0, err
	}
	image := imageOf(snapshot)
	info, err := cluster.ImageInfo(ctx, image)
	return image, info, snapshot.Size, err
}

// begun tells from an image alone what clone of the source it is, when the source
// itself is gone: nil when it is none. Until a clone is complete it has its
// parent's metadata, or none.
func (c *creation) begun(info *ceph.ImageInfo) *clone {
	if c.source == nil || info.Parent == nil {
		return nil
	}
	name, named := info.Metadata[imagemeta.Name]
	if c.source.snapshot != nil && *info.Parent != *c.source.snapshot ||
		c.source.volume != nil && named && volumeid.ImageName(name) != c.source.volume.Name {
		return nil
	}
	if c.limits.GetRequiredBytes() == 0 {
		c.size = info.Size
	}
	return &clone{parent: *info.Parent, depth: imagemeta.DepthOf(info) + 1}
}

// imageOf names the image of a snapshot, as it is called now.
func imageOf(s *ceph.SnapshotInfo) ceph.ImageRef {
	return ceph.ImageRef{PoolID: s.Ref.PoolID, Namespace: s.Ref.Namespace, Name: s.Image}
}

// fit chooses the volume's size for a source: larger than asked for nowhere, and
// never smaller than the source.
func (c *creation) fit(source int64) error {
	if c.limits.GetRequiredBytes() == 0 {
		c.size = source
	}
	if limit := c.limits.GetLimitBytes(); c.size < source || limit > 0 && c.size > limit {
		return fault.Field(fault.OutOfRange, "capacity_range", "the source has %d bytes, asked for are %d to %d (0: no limit): a volume is not smaller than its source",
			source, c.limits.GetRequiredBytes(), limit)
	}
	return nil
}

// cloneVolume clones a volume by a snapshot that is named after the clone, so
// that each repeat finds it, and is removed in the end. One that is left over by
// a crash is removed by upkeep.
func (s *Server) cloneVolume(ctx context.Context, cluster ceph.Block, c *creation, ref ceph.ImageRef, of clone, parent *ceph.ImageInfo) (int64, error) {
	step.Enter(ctx, "snapshot the source "+c.source.code)
	snapshot, err := cluster.CreateSnapshot(ctx, *c.source.volume, imagemeta.TemporaryPrefix+ref.Name)
	if err != nil {
		return 0, err
	}
	of.parent = snapshot.Ref
	size, err := s.cloneImage(ctx, cluster, c, ref, of, parent)
	if err != nil && fault.KindOf(err) != fault.Conflict {
		s.Upkeep.Temporary(c.FSID, *c.source.volume)
		return 0, err
	}
	step.Enter(ctx, "remove the snapshot of the source "+c.source.code)
	if gone := cluster.RemoveSnapshot(ctx, snapshot.Ref); gone != nil && !ceph.Is(gone, ceph.NotFound) {
		s.Upkeep.Temporary(c.FSID, *c.source.volume)
		return 0, gone
	}
	return size, err
}

func (s *Server) cloneImage(ctx context.Context, cluster ceph.Block, c *creation, ref ceph.ImageRef, of clone, parent *ceph.ImageInfo) (int64, error) {
	passphrase, there, err := c.key(ctx, cluster, ref, parent)
	if err != nil {
		return 0, err
	}
	if there {
		return c.adopt(ctx, cluster, ref, &of)
	}
	step.Enter(ctx, "clone "+of.parent.String()+" to "+ref.String())
	err = cluster.CloneImage(ctx, of.parent, ref, ceph.ImageSpec{Size: c.size, Features: c.Features, DataPool: c.dataPool,
		Metadata: c.metadata(of.depth), Passphrase: passphrase})
	switch {
	case ceph.Is(err, ceph.Exists):
		return c.adopt(ctx, cluster, ref, &of)
	case err != nil:
		return 0, err
	case of.depth > s.Upkeep.Limits().SoftDepth:
		s.Upkeep.Deep(c.FSID, ref)
	}
	if c.qos.text == "" && parent.Limits == (ceph.Limits{}) {
		return c.size, nil
	}
	return c.size, c.limit(ctx, cluster, ref) // a clone has its parent's limits at first
}

func parseSnapshotID(code, field string) (volumeid.SnapshotID, error) {
	if code == "" {
		return volumeid.SnapshotID{}, fault.Field(fault.Invalid, field, "is empty")
	}
	id, err := volumeid.ParseSnapshot(code)
	if err != nil {
		return id, fault.Field(fault.NotFound, field, "%w", err)
	}
	return id, nil
}

func parseVolumeID(code, field string) (volumeid.ID, error) {
	if code == "" {
		return volumeid.ID{}, fault.Field(fault.Invalid, field, "is empty")
	}
	id, err := volumeid.Parse(code)
	if err != nil {
		return id, fault.Field(fault.NotFound, field, "%w", err)
	}
	return id, nil
}
