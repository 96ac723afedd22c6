package controller

import (
	"context"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// metadata of the volume's image. A clone begins with its parent's metadata, so
// that all keys are set for one.
func (c *creation) metadata(depth int) map[string]string {
	m := map[string]string{imagemeta.Name: c.name, imagemeta.Features: strings.Join(c.Features, ",")}
	if c.encryption.record != "" {
		m[kms.MetadataKey] = c.encryption.record
	}
	optional := map[string]string{imagemeta.Claim: c.Claim, imagemeta.Limits: c.qos.text, imagemeta.Log: c.log, imagemeta.LogReplayer: ""}
	if c.source != nil {
		m[imagemeta.Source], m[imagemeta.Depth] = c.source.code, strconv.Itoa(depth)
	}
	for key, value := range optional {
		if value != "" || c.source != nil {
			m[key] = value
		}
	}
	return m
}

// clone is what a volume with a source is made of.
type clone struct {
	parent ceph.SnapshotRef
	depth  int
}

// adopt compares an image that has the name already with what is asked for,
// completes it where an earlier create was cut off, and returns its size. Without
// a clone, one that was cut off cannot be completed if the volume has a source.
func (c *creation) adopt(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef, of *clone) (int64, error) {
	step.Enter(ctx, "compare with the existing "+ref.String())
	info, err := cluster.ImageInfo(ctx, ref)
	if ceph.Is(err, ceph.NotFound) {
		return 0, fault.Errorf(fault.Pending, "%s was there and is gone, or is being made: %w", ref, err)
	}
	if err != nil {
		return 0, err
	}
	if c.cutOff(info, of) {
		return c.size, c.complete(ctx, cluster, ref, info, of)
	}
	if err := c.compare(ref, info); err != nil {
		return 0, err
	}
	// Limits that were changed since then stay as they are.
	if c.qos.text != "" && info.Metadata[imagemeta.Limits] == c.qos.text {
		return info.Size, c.limit(ctx, cluster, ref)
	}
	return info.Size, nil
}

// cutOff reports whether an image is what a create that did not come to its end
// left. A clone has its parent's metadata until it gets its own.
func (c *creation) cutOff(info *ceph.ImageInfo, of *clone) bool {
	name, complete := info.Metadata[imagemeta.Name]
	return !complete || of != nil && info.Parent != nil && *info.Parent == of.parent && name != c.name
}

func (c *creation) compare(ref ceph.ImageRef, info *ceph.ImageInfo) error {
	if got := info.Metadata[imagemeta.Name]; got != c.name {
		return fault.Field(fault.Conflict, "name", "%s is of volume %q, not %q", ref, got, c.name)
	}
	if err := c.compareEncryption(info); err != nil {
		return err
	}
	if !within(info.Size, c.limits) {
		return fault.Field(fault.Conflict, "capacity_range", "volume %q exists with %d bytes, asked for are %d to %d (0: no limit)",
			c.name, info.Size, c.limits.GetRequiredBytes(), c.limits.GetLimitBytes())
	}
	if got, want := info.Metadata[imagemeta.Features], strings.Join(c.Features, ","); got != want {
		return fault.Field(fault.Conflict, "parameters.imageFeatures", "volume %q exists with %q, asked for is %q", c.name, got, want)
	}
	if got, want := info.Metadata[imagemeta.Source], c.source.id(); got != want {
		return fault.Field(fault.Conflict, "volume_content_source", "volume %q exists and was made from %q, asked for is %q", c.name, got, want)
	}
	return nil
}

// complete does what an earlier create did not come to. An image of another size
// or source is not what such a create would have left.
func (c *creation) complete(ctx context.Context, cluster ceph.Block, ref ceph.ImageRef, info *ceph.ImageInfo, of *clone) error {
	depth := 0
	switch {
	case c.source == nil && (info.Parent != nil || info.Size != c.size || info.Encrypted || c.Encrypted),
		of != nil && (info.Parent == nil || *info.Parent != of.parent || info.Size > c.size):
		return fault.Field(fault.Conflict, "name", "%s exists, but was not made by this driver", ref)
	case c.source != nil && of == nil:
		return fault.Errorf(fault.Pending, "%s was begun and cannot be completed now", ref)
	case of != nil:
		depth = of.depth
		if err := c.keepKey(ctx, ref, info); err != nil {
			return err
		}
		step.Enter(ctx, "grow "+ref.String())
		if err := cluster.GrowImage(ctx, ref, c.size); err != nil {
			return err
		}
	}
	step.Enter(ctx, "complete the metadata of "+ref.String())
	if err := cluster.SetImageMetadata(ctx, ref, c.metadata(depth)); err != nil {
		return err
	}
	if of == nil && c.qos.text == "" {
		return nil
	}
	return c.limit(ctx, cluster, ref)
}
