package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// ControllerModifyVolume sets the limits of a volume's I/O, those of a running
// pod too. A key that is left out is no limit.
func (s *Server) ControllerModifyVolume(ctx context.Context, req *csi.ControllerModifyVolumeRequest) (*csi.ControllerModifyVolumeResponse, error) {
	id, err := parseID(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	want, err := parseQoS(req.GetMutableParameters())
	if err != nil {
		return nil, err
	}
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "note the limits of "+id.Image.String())
		if err := cluster.SetImageMetadata(ctx, id.Image, map[string]string{imagemeta.Limits: want.text}); err != nil {
			return err
		}
		step.Enter(ctx, "limit the I/O of "+id.Image.String())
		return cluster.LimitImage(ctx, id.Image, want.Limits)
	})
	if err != nil {
		return nil, err
	}
	return &csi.ControllerModifyVolumeResponse{}, nil
}
