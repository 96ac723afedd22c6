package node

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/step"
)

// NodeExpandVolume makes the device, and the filesystem on it, as large as the image.
func (s *Server) NodeExpandVolume(ctx context.Context, req *csi.NodeExpandVolumeRequest) (*csi.NodeExpandVolumeResponse, error) {
	r, err := s.expandable(req)
	if err != nil {
		return nil, err
	}
	if err := s.verify(ctx, r); err != nil {
		return nil, err
	}
	device, err := s.attacher(r).Resize(ctx, r.VolumeID)
	if err != nil {
		return nil, err
	}
	if required := req.GetCapacityRange().GetRequiredBytes(); device.Size < required {
		return nil, fault.Field(fault.OutOfRange, "capacity_range.required_bytes", "the image has %d bytes, not yet %d", device.Size, required)
	}
	if !r.Block && !r.ReadOnly {
		step.Enter(ctx, "grow the filesystem at "+r.StagingPath)
		if err := s.Host.Grow(ctx, device.Path, r.StagingPath); err != nil {
			return nil, err
		}
	}
	return &csi.NodeExpandVolumeResponse{CapacityBytes: device.Size}, nil
}

func (s *Server) expandable(req *csi.NodeExpandVolumeRequest) (*journal.Record, error) {
	r, err := s.staged(req.GetVolumeId(), req.GetVolumePath())
	if err != nil {
		return nil, err
	}
	if c := req.GetVolumeCapability(); c != nil {
		if _, err := capability.Parse(c, "volume_capability"); err != nil {
			return nil, err
		}
	}
	path, err := s.path(req.GetVolumePath(), "volume_path")
	if err != nil {
		return nil, err
	}
	return r, s.holds(r, path)
}

// staged returns the record of a volume that a request names with a path.
func (s *Server) staged(code, path string) (*journal.Record, error) {
	if _, err := volume(code); err != nil {
		return nil, err
	}
	if path == "" {
		return nil, fault.Field(fault.Invalid, "volume_path", "is empty")
	}
	r, err := s.Journal.Read(code)
	if err != nil {
		return nil, err
	}
	if r == nil {
		return nil, fault.Field(fault.NotFound, "volume_id", "volume %s is not staged on this node", code)
	}
	return r, nil
}

// holds checks that a path is where the volume is staged or published.
func (s *Server) holds(r *journal.Record, path string) error {
	if r.Block && path == r.StagingPath {
		return nil
	}
	if err := s.verifyTarget(r, path); err != nil {
		if fault.KindOf(err) == fault.Refused {
			return fault.Field(fault.NotFound, "volume_path", "the volume is not at %s: %w", path, err)
		}
		return err
	}
	return nil
}
