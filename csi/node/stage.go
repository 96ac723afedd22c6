package node

import (
	"context"
	"errors"
	"fmt"
	"os"
	"slices"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/step"
)

// NodeStageVolume attaches a volume and mounts its filesystem at the staging path.
func (s *Server) NodeStageVolume(ctx context.Context, req *csi.NodeStageVolumeRequest) (*csi.NodeStageVolumeResponse, error) {
	g, err := s.parseStage(req)
	if err != nil {
		return nil, err
	}
	old, err := s.Journal.Read(g.code)
	if err != nil {
		return nil, err
	}
	if old != nil {
		done, err := s.resume(ctx, g, old)
		if err != nil || done {
			return &csi.NodeStageVolumeResponse{}, err
		}
	}
	return &csi.NodeStageVolumeResponse{}, s.stage(ctx, g)
}

// resume looks at what an earlier call left. A volume that is staged as it
// should is done; one whose device is gone is taken down, to be staged anew.
func (s *Server) resume(ctx context.Context, g staging, old *journal.Record) (done bool, err error) {
	if err := g.differs(old); err != nil {
		return false, err
	}
	if old.Step == journal.Staged {
		err := s.verify(ctx, old)
		if err == nil {
			return true, nil
		}
		if fault.KindOf(err) != fault.Refused {
			return false, err // it cannot be seen now: leave it as it is
		}
		klog.FromContext(ctx).Info("What was staged is gone: staging anew", "reason", err.Error())
		return false, s.takeDown(ctx, old)
	}
	if old.Step == journal.Unstaging || old.Step == journal.Replaying || old.BootID != durable.BootID() {
		return false, s.takeDown(ctx, old)
	}
	return false, nil
}

// differs compares a request with what was staged, or begun, before.
func (g staging) differs(old *journal.Record) error {
	if old.Step == journal.Unstaging {
		return nil
	}
	switch {
	case old.StagingPath != g.path:
		return fault.Field(fault.Conflict, "staging_target_path", "the volume is staged at %s", old.StagingPath)
	case old.Block != g.want.Block:
		return fault.Field(fault.Conflict, "volume_capability.access_type", "the volume is staged as another type")
	case old.Filesystem != g.want.Filesystem:
		return fault.Field(fault.Conflict, "volume_capability.mount.fs_type", "the volume is staged with %s", old.Filesystem)
	case !slices.Equal(old.Options, g.want.Options):
		return fault.Field(fault.Conflict, "volume_capability.mount.mount_flags", "the volume is staged with %q", old.Options)
	case old.ReadOnly != g.want.ReadOnly || old.Exclusive != g.want.Exclusive():
		return fault.Field(fault.Conflict, "volume_capability.access_mode", "the volume is staged in another mode")
	}
	return nil
}

func (s *Server) stage(ctx context.Context, g staging) error {
	r := journal.Record{
		VolumeID: g.code, StagingPath: g.path, Method: s.Method, BootID: durable.BootID(), Step: journal.Attaching,
		Block: g.want.Block, Filesystem: g.want.Filesystem, Options: g.want.Options,
		ReadOnly: g.want.ReadOnly, Exclusive: g.want.Exclusive(), Encrypted: g.key != "",
	}
	passphrase, err := s.passphrase(ctx, g)
	if err != nil {
		return err
	}
	step.Enter(ctx, "read the credentials of cluster "+g.id.FSID)
	use := s.using.begin()
	defer use.end()
	credentials, err := s.Credentials.Credentials(ctx, g.id.FSID)
	if err != nil {
		return err
	}
	use.is(credentials)
	if err := s.Journal.Write(r); err != nil {
		return err
	}
	if err := s.build(ctx, g, &r, attach.Volume{
		ID: g.code, Image: g.id.Image, Pool: g.pool, Credentials: credentials,
		ReadOnly: r.ReadOnly, Exclusive: r.Exclusive, Passphrase: passphrase,
		Near: s.near(ctx, g),
	}); err != nil {
		return s.undo(ctx, r, err)
	}
	return nil
}

// undo takes down what was begun when staging fails: the kubelet asks for nothing
// more of a volume that it was told cannot be staged. Of a call that it gave up
// it knows nothing, and asks again.
func (s *Server) undo(ctx context.Context, r journal.Record, failed error) error {
	if ctx.Err() != nil {
		return failed
	}
	back := step.Keep(ctx)
	if err := s.takeDown(ctx, &r); err != nil {
		return fault.Errorf(fault.Unavailable, "%w; what was begun could not be taken down: %w", failed, err)
	}
	back() // that is the step that failed
	return failed
}

// build attaches a volume and mounts its filesystem, and notes both.
func (s *Server) build(ctx context.Context, g staging, r *journal.Record, volume attach.Volume) (err error) {
	if r.ReadOnly {
		if err := s.settleLog(ctx, g.id, r, volume); err != nil {
			return err
		}
	}
	r.Device, err = s.attacher(r).Attach(ctx, volume)
	if err != nil {
		return fmt.Errorf("attach volume %s: %w", g.code, err)
	}
	// The device's number and the client's addresses are on disk before anything
	// is written through it.
	r.Step = journal.Mounting
	if err := s.Journal.Write(*r); err != nil {
		return err
	}
	if err := s.mount(ctx, *r, g.foreign); err != nil {
		return err
	}
	r.Step = journal.Staged
	return s.Journal.Write(*r)
}

// mount mounts the device's filesystem, unless an earlier call did, and makes it
// fill the device.
func (s *Server) mount(ctx context.Context, r journal.Record, foreign bool) error {
	if err := s.verifyNode(&r, r.Device.Path); err != nil {
		return err
	}
	if r.Block {
		return nil
	}
	m, err := s.Host.MountAt(r.StagingPath)
	if err != nil {
		return err
	}
	if m != nil {
		err = s.verifyMount(&r, r.StagingPath, "staging path")
	} else {
		err = s.mountDevice(ctx, r, foreign)
	}
	if err != nil || r.ReadOnly {
		return err
	}
	step.Enter(ctx, "make the filesystem at "+r.StagingPath+" fill its device")
	return s.Host.Fill(ctx, r.Device.Path, r.StagingPath, r.Filesystem, r.Options)
}

func (s *Server) mountDevice(ctx context.Context, r journal.Record, foreign bool) error {
	if foreign && !r.ReadOnly {
		step.Enter(ctx, "look whether "+r.Device.Path+" is empty")
		if err := s.Host.CheckBlank(r.Device.Path, r.Filesystem); err != nil {
			return err
		}
	}
	if err := os.MkdirAll(r.StagingPath, 0o750); err != nil {
		return fmt.Errorf("make the staging path: %w", err)
	}
	if r.ReadOnly {
		return s.mountToRead(ctx, r)
	}
	step.Enter(ctx, "mount "+r.Device.Path+" with "+r.Filesystem+", formatting it if it is empty")
	return s.Host.Mount(ctx, r.Device.Path, r.StagingPath, r.Filesystem, r.Options)
}

// mountToRead mounts a filesystem read-only. One that was not unmounted, and whose
// log is not Cairn's to replay, is mounted without what is in it; which Troubles tell.
func (s *Server) mountToRead(ctx context.Context, r journal.Record) error {
	step.Enter(ctx, "mount "+r.Device.Path+" with "+r.Filesystem+", to read only")
	options := append(slices.Clone(r.Options), "ro")
	err := s.Host.Mount(ctx, r.Device.Path, r.StagingPath, r.Filesystem, options)
	switch {
	case err == nil || fault.KindOf(err) == fault.Refused:
		return err
	case r.LogReplayed:
		return fault.Errorf(fault.Refused, "the filesystem cannot be mounted to read only; its log was replayed once, and it is not read without what the log "+
			"may hold since then: if the volume was written to, mount it to write (ReadWriteOnce) once more: %w", err)
	}
	if again := s.Host.MountWithoutLog(ctx, r.Device.Path, r.StagingPath, r.Filesystem, options); again != nil {
		return errors.Join(err, again)
	}
	klog.FromContext(ctx).Info("Mounted without what is in the filesystem's log", "volume", r.VolumeID, "path", r.StagingPath, "reason", err.Error())
	return nil
}

// NodeUnstageVolume unmounts and detaches a volume.
func (s *Server) NodeUnstageVolume(ctx context.Context, req *csi.NodeUnstageVolumeRequest) (*csi.NodeUnstageVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	path, err := s.path(req.GetStagingTargetPath(), "staging_target_path")
	if err != nil {
		return nil, err
	}
	r, err := s.Journal.Read(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if r == nil {
		// Without a record all the same may be there, if the record was lost.
		r = &journal.Record{VolumeID: req.GetVolumeId(), StagingPath: path}
	}
	return &csi.NodeUnstageVolumeResponse{}, s.takeDown(ctx, r)
}

// takeDown unmounts a volume, detaches it, and forgets it.
func (s *Server) takeDown(ctx context.Context, r *journal.Record) error {
	r.Step = journal.Unstaging
	if r.BootID != "" {
		if err := s.Journal.Write(*r); err != nil {
			return err
		}
	}
	step.Enter(ctx, "unmount "+r.StagingPath)
	if err := s.Host.Unmount(ctx, r.StagingPath); err != nil {
		return err
	}
	if err := s.detach(ctx, r); err != nil {
		return fmt.Errorf("detach volume %s: %w", r.VolumeID, err)
	}
	return s.Journal.Remove(r.VolumeID)
}

// detach ends a volume's attachment. Whose it is, is not known without a record.
func (s *Server) detach(ctx context.Context, r *journal.Record) error {
	if r.BootID == "" && s.EncryptedAttacher != nil {
		if err := s.EncryptedAttacher.Detach(ctx, r.VolumeID); err != nil {
			return err
		}
	}
	return s.attacher(r).Detach(ctx, r.VolumeID)
}
