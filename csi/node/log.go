package node

import (
	"context"
	"fmt"
	"os"
	"strings"

	"github.com/google/uuid"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// A clone of a mounted volume begins with a filesystem that was not unmounted: part
// of what was written is in its log alone. When the clone is to be read only, on
// many nodes, none of its readers can bring that to its place. So a node that has the
// image's exclusive lock does it once, before the first of them. The image's
// metadata say how far it is:
//
//	log           "pending" from the volume's making on, then who replayed it
//	log-replayer  who began to, last
//
// The volume may be read when both are the same. Who begins writes log-replayer
// first, and reads log then; who ends writes log first, and reads log-replayer then.
// So of two that both take themselves for the lock's owner (one lost it, and does
// not know yet) one sees the other, and goes back. Nothing is written to an image
// whose log is not "pending": somebody may be reading it.
type logState struct{ log, replayer string }

// settled reports whether the volume may be read. One of whose log nothing is
// known is taken as it is.
func (l logState) settled() bool { return l.log == "" || l.log == l.replayer }

func (s *Server) logState(ctx context.Context, id volumeid.ID) (l logState, err error) {
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "look whether the log of "+id.Image.String()+" was replayed")
		info, err := cluster.ImageInfo(ctx, id.Image)
		if err == nil {
			l = logState{info.Metadata[imagemeta.Log], info.Metadata[imagemeta.LogReplayer]}
		}
		return err
	})
	return l, err
}

func (s *Server) noteLog(ctx context.Context, id volumeid.ID, key, value string) error {
	return s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) error {
		step.Enter(ctx, "note who replays the log of "+id.Image.String())
		return cluster.SetImageMetadata(ctx, id.Image, map[string]string{key: value})
	})
}

// settleLog has the log of a volume that is to be read only replayed, if it is
// pending and nobody else replays it.
func (s *Server) settleLog(ctx context.Context, id volumeid.ID, r *journal.Record, volume attach.Volume) error {
	l, err := s.logState(ctx, id)
	if err == nil && !l.settled() {
		l, err = s.replayLog(ctx, id, r, volume, l)
	}
	switch {
	case err != nil:
		return err
	case !l.settled():
		return fault.Errorf(fault.Pending, "%s replays the log of the volume's filesystem: the volume is read after that", s.other(l))
	}
	r.LogReplayed = l.log != ""
	return nil
}

// other names a node that replays a log.
func (s *Server) other(l logState) string {
	if node, _, _ := strings.Cut(l.replayer, " "); node != "" && node != s.ID {
		return "node " + node
	}
	return "another client"
}

// replayLog attaches a volume to write, alone, replays its log, and detaches it.
// Until it is detached the record says so, so that whoever comes after a crash
// takes it down before anything else.
func (s *Server) replayLog(ctx context.Context, id volumeid.ID, r *journal.Record, volume attach.Volume, l logState) (logState, error) {
	r.Step = journal.Replaying
	if err := s.Journal.Write(*r); err != nil {
		return l, err
	}
	volume.ReadOnly, volume.Exclusive = false, true
	device, err := s.attacher(r).Attach(ctx, volume)
	if ceph.Is(err, ceph.Busy) {
		if now, unknown := s.logState(ctx, id); unknown == nil {
			l = now
		}
		return l, fault.Errorf(fault.Pending, "%s replays the log of the volume's filesystem, or writes to the volume: the volume is read after that: %w", s.other(l), err)
	}
	if err != nil {
		return l, fmt.Errorf("attach volume %s to replay its log: %w", r.VolumeID, err)
	}
	r.Device = device
	if err := s.Journal.Write(*r); err != nil {
		return l, err
	}
	if err := s.replayAs(ctx, id, r, s.ID+" cairn-"+uuid.NewString()); err != nil {
		return l, err
	}
	if err := s.attacher(r).Detach(ctx, r.VolumeID); err != nil {
		return l, fmt.Errorf("detach volume %s, whose log is replayed: %w", r.VolumeID, err)
	}
	r.Step, r.Device = journal.Attaching, attach.Device{}
	if err := s.Journal.Write(*r); err != nil {
		return l, err
	}
	return s.logState(ctx, id)
}

// replayAs replays the log of an attached volume, unless another did so before it
// was attached. The name is one that nobody had before.
func (s *Server) replayAs(ctx context.Context, id volumeid.ID, r *journal.Record, name string) error {
	l, err := s.logState(ctx, id)
	if err != nil || l.settled() {
		return err
	}
	if err := s.noteLog(ctx, id, imagemeta.LogReplayer, name); err != nil {
		return err
	}
	if l, err = s.logState(ctx, id); err != nil {
		return err
	}
	if l.log == imagemeta.LogPending && !r.Block {
		if err := s.replay(ctx, r); err != nil {
			return err
		}
	}
	return s.noteLog(ctx, id, imagemeta.Log, name)
}

// replay mounts a filesystem to write, which replays its log, makes it fill its
// device, and unmounts it. All of it is stable then.
func (s *Server) replay(ctx context.Context, r *journal.Record) error {
	if err := s.verifyNode(r, r.Device.Path); err != nil {
		return err
	}
	m, err := s.Host.MountAt(r.StagingPath)
	if err != nil {
		return err
	}
	if m != nil {
		return fault.Errorf(fault.Refused, "device %s is mounted at the staging path %s, and nothing is recorded of it", m.Device, r.StagingPath)
	}
	if err := os.MkdirAll(r.StagingPath, 0o750); err != nil {
		return fmt.Errorf("make the staging path: %w", err)
	}
	step.Enter(ctx, "replay the log of the "+r.Filesystem+" on "+r.Device.Path)
	if err := s.Host.Recover(ctx, r.Device.Path, r.StagingPath, r.Filesystem, r.Options); err != nil {
		return err
	}
	step.Enter(ctx, "make the filesystem at "+r.StagingPath+" fill its device")
	if err := s.Host.Fill(ctx, r.Device.Path, r.StagingPath, r.Filesystem, r.Options); err != nil {
		return err
	}
	step.Enter(ctx, "unmount "+r.StagingPath)
	if err := s.Host.Unmount(ctx, r.StagingPath); err != nil {
		return err
	}
	step.Enter(ctx, "flush "+r.Device.Path)
	return s.Host.Flush(ctx, r.Device.Path)
}
