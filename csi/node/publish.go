package node

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/step"
)

// NodePublishVolume gives a pod a staged volume at its target path.
func (s *Server) NodePublishVolume(ctx context.Context, req *csi.NodePublishVolumeRequest) (*csi.NodePublishVolumeResponse, error) {
	p, err := s.parsePublish(req)
	if err != nil {
		return nil, err
	}
	r, err := s.Journal.Read(p.code)
	if err != nil {
		return nil, err
	}
	if err := p.check(r); err != nil {
		return nil, err
	}
	if err := s.verify(ctx, r); err != nil {
		return nil, err
	}
	return &csi.NodePublishVolumeResponse{}, s.publish(ctx, p, r)
}

// check compares a request with what is staged.
func (p publishing) check(r *journal.Record) error {
	switch {
	case r == nil:
		return fault.Field(fault.Refused, "volume_id", "volume %s is not staged on this node", p.code)
	case r.StagingPath != p.staging:
		return fault.Field(fault.Refused, "staging_target_path", "the volume is staged at %s, not at %s", r.StagingPath, p.staging)
	case r.Block != p.want.Block:
		return fault.Field(fault.Invalid, "volume_capability.access_type", "the volume is staged as another type")
	case r.ReadOnly && !p.readOnly:
		return fault.Field(fault.Invalid, "volume_capability.access_mode", "the volume is staged read-only")
	}
	return nil
}

func (s *Server) publish(ctx context.Context, p publishing, r *journal.Record) error {
	step.Enter(ctx, "publish at "+p.target)
	m, err := s.Host.MountAt(p.target)
	if err != nil {
		return err
	}
	if m != nil {
		return s.published(p, r, m.ReadOnly)
	}
	if p.want.OnePod {
		if err := s.onlyTarget(p, r); err != nil {
			return err
		}
	}
	if err := s.note(r, p.target); err != nil {
		return err
	}
	source := r.StagingPath
	if r.Block {
		source = r.Device.Path
	}
	if err := makeTarget(p.target, r.Block); err != nil {
		return err
	}
	if err := s.Host.Bind(ctx, source, p.target, p.readOnly); err != nil {
		return err
	}
	// The staging path may have changed under the bind.
	if err := s.verifyTarget(r, p.target); err != nil {
		return errors.Join(err, s.Host.Unmount(context.WithoutCancel(ctx), p.target))
	}
	return nil
}

// onlyTarget refuses a second target of a volume that one pod alone may have.
func (s *Server) onlyTarget(p publishing, r *journal.Record) error {
	for _, target := range r.Targets {
		if target == p.target {
			continue
		}
		m, err := s.Host.MountAt(target)
		if err != nil {
			return err
		}
		if m != nil {
			return fault.Field(fault.Refused, "target_path", "the volume is for one pod only and is published at %s", target)
		}
	}
	return nil
}

// note writes down that a target is about to exist.
func (s *Server) note(r *journal.Record, target string) error {
	if slices.Contains(r.Targets, target) {
		return nil
	}
	r.Targets = append(r.Targets, target)
	return s.Journal.Write(*r)
}

// strike takes a target that is gone from the record.
func (s *Server) strike(volumeID, target string) error {
	r, err := s.Journal.Read(volumeID)
	if err != nil || r == nil || !slices.Contains(r.Targets, target) {
		return err
	}
	r.Targets = slices.DeleteFunc(r.Targets, func(t string) bool { return t == target })
	return s.Journal.Write(*r)
}

// published checks what an earlier call left at the target.
func (s *Server) published(p publishing, r *journal.Record, readOnly bool) error {
	if err := s.verifyTarget(r, p.target); err != nil {
		return fault.Field(fault.Refused, "target_path", "something else is there: %w", err)
	}
	if readOnly != p.readOnly && !r.Block {
		return fault.Field(fault.Conflict, "readonly", "the volume is published at %s in another mode", p.target)
	}
	return nil
}

// makeTarget makes what is mounted over: a directory, or a file for a device.
func makeTarget(target string, block bool) error {
	if !block {
		if err := os.MkdirAll(target, 0o750); err != nil {
			return fmt.Errorf("make the target path: %w", err)
		}
		return nil
	}
	if err := os.MkdirAll(filepath.Dir(target), 0o750); err != nil {
		return fmt.Errorf("make the target path: %w", err)
	}
	f, err := os.OpenFile(target, os.O_CREATE|os.O_RDONLY, 0o640)
	if err != nil {
		return fmt.Errorf("make the target path: %w", err)
	}
	return f.Close()
}

// NodeUnpublishVolume takes a volume from a pod.
func (s *Server) NodeUnpublishVolume(ctx context.Context, req *csi.NodeUnpublishVolumeRequest) (*csi.NodeUnpublishVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	target, err := s.path(req.GetTargetPath(), "target_path")
	if err != nil {
		return nil, err
	}
	step.Enter(ctx, "unmount "+target)
	if err := s.Host.Unmount(ctx, target); err != nil {
		return nil, err
	}
	// Only what is empty goes: what a pod wrote below a lost mount stays.
	if err := os.Remove(target); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("remove the target path: %w", err)
	}
	return &csi.NodeUnpublishVolumeResponse{}, s.strike(req.GetVolumeId(), target)
}
