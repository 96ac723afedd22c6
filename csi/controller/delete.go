package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// DeleteVolume hides an image, so that its snapshots and clones live on; upkeep
// removes it when it has none. That it is gone already is fine. An image that some
// client has open stays.
func (s *Server) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	id, err := volumeid.Parse(req.GetVolumeId())
	if err != nil {
		// The specification wants a volume that cannot exist to count as deleted.
		klog.FromContext(ctx).Info("Nothing to delete", "reason", err.Error())
		return &csi.DeleteVolumeResponse{}, nil
	}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "hide "+id.Image.String())
		return cluster.HideImage(ctx, id.Image)
	})
	switch {
	case fault.KindOf(err) == "" && ceph.Is(err, ceph.NotFound):
		// An earlier call may have hidden it and not have heard of it.
	case fault.KindOf(err) == fault.NotFound:
		// The cluster is not known: the volume may well be there.
		return nil, fault.Errorf(fault.Refused, "volume %s cannot be deleted: %w", req.GetVolumeId(), err)
	case ceph.Is(err, ceph.Busy):
		return nil, fault.Errorf(fault.Refused, "volume %s is in use: %w", req.GetVolumeId(), err)
	case err != nil:
		return nil, err
	}
	s.Upkeep.Hidden(places.Root{FSID: id.FSID, PoolID: id.Image.PoolID, Namespace: id.Image.Namespace})
	return &csi.DeleteVolumeResponse{}, nil
}
