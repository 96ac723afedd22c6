package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// ControllerExpandVolume grows an image. The node follows: the device and its
// filesystem learn the new size there.
func (s *Server) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	id, err := parseID(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if req.GetCapacityRange() == nil {
		return nil, fault.Field(fault.Invalid, "capacity_range", "is missing")
	}
	if c := req.GetVolumeCapability(); c != nil {
		if _, err := capability.Parse(c, "volume_capability"); err != nil {
			return nil, err
		}
	}
	size, err := sizeOf(req.GetCapacityRange(), mebibyte)
	if err != nil {
		return nil, err
	}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		size, err = s.grow(ctx, cluster, id, size, req.GetCapacityRange())
		return err
	})
	if err != nil {
		return nil, err
	}
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: size, NodeExpansionRequired: true}, nil
}

func (s *Server) grow(ctx context.Context, cluster ceph.Block, id volumeid.ID, size int64, limits *csi.CapacityRange) (int64, error) {
	ref := id.Image
	step.Enter(ctx, "look at "+ref.String())
	info, err := cluster.ImageInfo(ctx, ref)
	switch {
	case err != nil:
		return 0, err
	case within(info.Size, limits):
		return info.Size, nil
	case info.Size > size:
		return 0, fault.Field(fault.OutOfRange, "capacity_range.limit_bytes", "the volume has %d bytes already and does not shrink to %d", info.Size, limits.GetLimitBytes())
	}
	if _, err := s.room(ctx, cluster, id.FSID, ref.PoolID, size); err != nil {
		return 0, err
	}
	step.Enter(ctx, "grow "+ref.String())
	return size, cluster.GrowImage(ctx, ref, size)
}
