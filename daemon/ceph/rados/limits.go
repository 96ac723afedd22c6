package rados

import (
	"context"
	"strconv"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// qos are librbd's options for limits, as an image's metadata overrides them.
func qos(limits *ceph.Limits) map[string]*int64 {
	const prefix = configPrefix + "rbd_qos_"
	return map[string]*int64{
		prefix + "iops_limit":       &limits.IOPS,
		prefix + "read_iops_limit":  &limits.ReadIOPS,
		prefix + "write_iops_limit": &limits.WriteIOPS,
		prefix + "bps_limit":        &limits.Bandwidth,
		prefix + "read_bps_limit":   &limits.ReadBandwidth,
		prefix + "write_bps_limit":  &limits.WriteBandwidth,
	}
}

// limitsOf reads limits out of an image's metadata; what is no number is no limit.
func limitsOf(metadata map[string]string) (limits ceph.Limits) {
	for key, value := range qos(&limits) {
		*value, _ = strconv.ParseInt(metadata[key], 10, 64)
	}
	return limits
}

// LimitImage bounds an image's I/O, also where it is open now. librbd's own call
// would want the exclusive lock, which the client that has the image open keeps.
func (c *conn) LimitImage(ctx context.Context, ref ceph.ImageRef, limits ceph.Limits) error {
	metadata := map[string]string{}
	for key, value := range qos(&limits) {
		metadata[key] = strconv.FormatInt(*value, 10)
	}
	return c.on(ctx, "limit "+ref.String(), ref, func(ioctx *rados.IOContext) error {
		id, err := imageID(ioctx, ref.Name)
		if err != nil {
			return err
		}
		return announceMetadata(ioctx, id, metadata, nil, 0)
	})
}
