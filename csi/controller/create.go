package controller

import (
	"context"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// maxName is the longest name that a volume may be asked for by.
const maxName = 128

// creation is a CreateVolume that was read and found sound.
type creation struct {
	name   string
	size   int64
	limits *csi.CapacityRange
	Parameters
}

// CreateVolume makes an image. The first call for a name costs one look-up of
// the pool, answered by the client itself, and one create.
func (s *Server) CreateVolume(ctx context.Context, req *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	c, err := parseCreate(req)
	if err != nil {
		return nil, err
	}
	var volume *csi.Volume
	err = s.Clusters.Do(ctx, c.FSID, func(cluster ceph.Block) (err error) {
		volume, err = c.run(ctx, cluster)
		return err
	})
	if err != nil {
		return nil, err
	}
	return &csi.CreateVolumeResponse{Volume: volume}, nil
}

func parseCreate(req *csi.CreateVolumeRequest) (*creation, error) {
	c := &creation{name: req.GetName(), limits: req.GetCapacityRange()}
	var err error
	switch {
	case c.name == "":
		return nil, fault.Field(fault.Invalid, "name", "is empty")
	case len(c.name) > maxName:
		return nil, fault.Field(fault.Invalid, "name", "is %d bytes long, more than %d", len(c.name), maxName)
	case req.GetVolumeContentSource() != nil:
		return nil, fault.Field(fault.Invalid, "volume_content_source", "is not supported")
	case len(req.GetMutableParameters()) > 0:
		return nil, fault.Field(fault.Invalid, "mutable_parameters", "are not supported")
	}
	if _, err = capability.ParseAll(req.GetVolumeCapabilities()); err != nil {
		return nil, err
	}
	if c.size, err = sizeOf(c.limits); err != nil {
		return nil, err
	}
	c.Parameters, err = parseParameters(req.GetParameters())
	return c, err
}

func (c *creation) run(ctx context.Context, cluster ceph.Block) (*csi.Volume, error) {
	step.Enter(ctx, "look up pool "+c.Pool)
	pool, err := cluster.PoolID(ctx, c.Pool)
	if ceph.Is(err, ceph.NotFound) {
		return nil, fault.Field(fault.Invalid, "parameters.pool", "there is no pool %q: %w", c.Pool, err)
	}
	if err != nil {
		return nil, err
	}
	ref := ceph.ImageRef{PoolID: pool, Namespace: c.Namespace, Name: volumeid.ImageName(c.name)}
	size := c.size
	step.Enter(ctx, "create "+ref.String())
	err = cluster.CreateImage(ctx, ref, ceph.ImageSpec{Size: size, Features: c.Features, Metadata: c.metadata()})
	if ceph.Is(err, ceph.Exists) {
		size, err = c.adopt(ctx, cluster, ref)
	}
	if err != nil {
		return nil, err
	}
	return c.volume(ref, size)
}

func (c *creation) volume(ref ceph.ImageRef, size int64) (*csi.Volume, error) {
	code, err := volumeid.ID{FSID: c.FSID, Image: ref}.Encode()
	if err != nil {
		return nil, err
	}
	return &csi.Volume{
		VolumeId:      code,
		CapacityBytes: size,
		VolumeContext: map[string]string{PoolContext: c.Pool},
	}, nil
}

// PoolContext is the key in a volume's context of its pool's name, which krbd
// needs; the pool's ID, which counts, is in the volume ID.
const PoolContext = "pool"

// The keys of what a volume was asked for, in its image's metadata.
const (
	metaName     = "cairn.storage/name"
	metaFeatures = "cairn.storage/image-features"
	metaClaim    = "cairn.storage/claim"
)

func (c *creation) metadata() map[string]string {
	m := map[string]string{metaName: c.name, metaFeatures: strings.Join(c.Features, ",")}
	if c.Claim != "" {
		m[metaClaim] = c.Claim
	}
	return m
}

// adopt compares an image that has the name already with what is asked for,
// completes it where an earlier create was cut off, and returns its size.
func (c *creation) adopt(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef) (int64, error) {
	step.Enter(ctx, "compare with the existing "+ref.String())
	info, err := cluster.ImageInfo(ctx, ref)
	if ceph.Is(err, ceph.NotFound) {
		return 0, fault.Errorf(fault.Pending, "%s was there and is gone, or is being made: %w", ref, err)
	}
	if err != nil {
		return 0, err
	}
	if !within(info.Size, c.limits) {
		return 0, fault.Field(fault.Conflict, "capacity_range", "volume %q exists with %d bytes, asked for are %d to %d (0: no limit)",
			c.name, info.Size, c.limits.GetRequiredBytes(), c.limits.GetLimitBytes())
	}
	if _, complete := info.Metadata[metaName]; !complete {
		return info.Size, c.complete(ctx, cluster, ref, info)
	}
	if got := info.Metadata[metaName]; got != c.name {
		return 0, fault.Field(fault.Conflict, "name", "%s is of volume %q, not %q", ref, got, c.name)
	}
	if got, want := info.Metadata[metaFeatures], strings.Join(c.Features, ","); got != want {
		return 0, fault.Field(fault.Conflict, "parameters.imageFeatures", "volume %q exists with %q, asked for is %q", c.name, got, want)
	}
	return info.Size, nil
}

// complete writes the metadata that an earlier create did not come to. An image
// of another size is not what such a create would have left.
func (c *creation) complete(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef, info *ceph.ImageInfo) error {
	if info.Size != c.size {
		return fault.Field(fault.Conflict, "name", "%s exists, but was not made by this driver", ref)
	}
	step.Enter(ctx, "complete the metadata of "+ref.String())
	return cluster.SetImageMetadata(ctx, ref, c.metadata())
}
