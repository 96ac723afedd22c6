package node

import (
	"context"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/step"
)

func number(d attach.Device) host.Number { return host.Number{Major: d.Major, Minor: d.Minor} }

// verify checks that a staged volume is what its record says: the device is
// attached and is the recorded one, its node has that number, and what is
// mounted at the staging path is that device's filesystem. Otherwise a pod would
// write to the node's own disk, or to another volume.
func (s *Server) verify(ctx context.Context, r *journal.Record) error {
	if r.Step != journal.Staged {
		return fault.Errorf(fault.Refused, "volume %s is not staged: it is at the step %q", r.VolumeID, r.Step)
	}
	if r.Unhealthy != "" {
		return fault.Errorf(fault.Refused, "volume %s is not usable: %s", r.VolumeID, r.Unhealthy)
	}
	step.Enter(ctx, "verify the staged device")
	if err := s.verifyDevice(ctx, r); err != nil || r.Block {
		return err
	}
	return s.verifyMount(r, r.StagingPath, "staging path")
}

func (s *Server) verifyDevice(ctx context.Context, r *journal.Record) error {
	if r.BootID != durable.BootID() {
		return fault.Errorf(fault.Refused, "volume %s was staged before this node restarted", r.VolumeID)
	}
	attached, err := attach.Find(ctx, s.attacher(r), r.VolumeID)
	switch {
	case err != nil:
		return err
	case attached == nil:
		return fault.Errorf(fault.Refused, "volume %s is not attached any more", r.VolumeID)
	case number(*attached) != number(r.Device):
		return fault.Errorf(fault.Refused, "volume %s is attached as %s, but was staged as %s", r.VolumeID, attached.Path, r.Device.Path)
	}
	return s.verifyNode(r, r.Device.Path)
}

// verifyNode checks that a path is the recorded device's node.
func (s *Server) verifyNode(r *journal.Record, path string) error {
	at, err := s.Host.DeviceAt(path)
	switch {
	case err != nil:
		return err
	case at == nil || *at != number(r.Device):
		return fault.Errorf(fault.Refused, "%s is not the device %s of volume %s", path, number(r.Device), r.VolumeID)
	}
	return nil
}

// verifyMount checks that the recorded device's filesystem is mounted at a path.
func (s *Server) verifyMount(r *journal.Record, path, what string) error {
	m, err := s.Host.MountAt(path)
	switch {
	case err != nil:
		return err
	case m == nil:
		return fault.Errorf(fault.Refused, "nothing is mounted at the %s %s", what, path)
	case m.Device != number(r.Device):
		return fault.Errorf(fault.Refused, "what is mounted at the %s %s is device %s, not %s of volume %s", what, path, m.Device, number(r.Device), r.VolumeID)
	}
	return nil
}

// verifyTarget checks what is at a published path.
func (s *Server) verifyTarget(r *journal.Record, path string) error {
	if r.Block {
		return s.verifyNode(r, path)
	}
	return s.verifyMount(r, path, "target path")
}
