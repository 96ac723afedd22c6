package node

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
)

// NodeGetVolumeStats says how full a volume is, as its filesystem has it. It
// asks nothing but this node's kernel.
func (s *Server) NodeGetVolumeStats(_ context.Context, req *csi.NodeGetVolumeStatsRequest) (*csi.NodeGetVolumeStatsResponse, error) {
	r, err := s.staged(req.GetVolumeId(), req.GetVolumePath())
	if err != nil {
		return nil, err
	}
	path, err := s.path(req.GetVolumePath(), "volume_path")
	if err != nil {
		return nil, fault.Field(fault.NotFound, "volume_path", "%w", err)
	}
	if err := s.holds(r, path); err != nil {
		return nil, err
	}
	if r.Block {
		return s.deviceStats(r.Device.Path)
	}
	return s.filesystemStats(path)
}

func (s *Server) deviceStats(path string) (*csi.NodeGetVolumeStatsResponse, error) {
	size, err := s.Host.DeviceSize(path)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{{Unit: csi.VolumeUsage_BYTES, Total: size}}}, nil
}

func (s *Server) filesystemStats(path string) (*csi.NodeGetVolumeStatsResponse, error) {
	u, err := s.Host.Usage(path)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetVolumeStatsResponse{Usage: []*csi.VolumeUsage{
		{Unit: csi.VolumeUsage_BYTES, Total: u.Bytes, Available: u.BytesAvailable, Used: u.Bytes - u.BytesFree},
		{Unit: csi.VolumeUsage_INODES, Total: u.Inodes, Available: u.InodesAvailable, Used: u.Inodes - u.InodesFree},
	}}, nil
}
