package node

import (
	"errors"
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	fakeattach "github.com/cairn-storage/cairn/csi/attach/fake"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/step"
)

const reader = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY

// logged is a volume with a log, on several nodes of one cluster.
type logged struct {
	t     *testing.T
	nodes []*bench
	// unclean until it was replayed, which is counted; during is called meanwhile.
	unclean  bool
	replayed int
	during   func()
}

func newLogged(t *testing.T, nodes int) *logged {
	l := &logged{t: t, unclean: true, during: func() {}}
	for i := range nodes {
		b := newBench(t)
		if i > 0 {
			first := l.nodes[0]
			b.conn, b.attacher, b.Clusters = first.conn, &fakeattach.Attacher{Connector: first.attacher.Connector}, first.Clusters
			b.Attacher, b.ID = b.attacher, fmt.Sprintf("node-%d", i+1)
		}
		b.host.Unclean = func(string) bool { return l.unclean }
		b.host.Replay = func(device string) error {
			_, image := b.attacher.Image(device)
			_, err := image.WriteAt([]byte("x"), 0)
			l.replayed++
			l.during()
			l.unclean = false
			return err
		}
		l.nodes = append(l.nodes, b)
	}
	l.note(imagemeta.LogPending, "")
	return l
}

func (l *logged) note(log, replayer string) {
	b := l.nodes[0]
	require.NoError(l.t, b.conn.SetImageMetadata(l.t.Context(), b.ref, map[string]string{imagemeta.Log: log, imagemeta.LogReplayer: replayer}))
}

func (l *logged) noted() (log, replayer string) {
	info, err := l.nodes[0].conn.ImageInfo(l.t.Context(), l.nodes[0].ref)
	require.NoError(l.t, err)
	return info.Metadata[imagemeta.Log], info.Metadata[imagemeta.LogReplayer]
}

// reads stages and publishes a volume, read-only and with its log.
func (b *bench) reads() {
	b.t.Helper()
	require.NoError(b.t, b.stage(mountCapability(reader)))
	require.NoError(b.t, b.publish("target", mountCapability(reader)))
	require.True(b.t, b.attacher.Volume(b.code).ReadOnly)
	require.False(b.t, b.attacher.Volume(b.code).Exclusive)
	m, err := b.host.MountAt(b.path("target"))
	require.NoError(b.t, err)
	require.True(b.t, m.ReadOnly && !m.WithoutLog)
	require.Empty(b.t, b.health())
}

func TestLogIsReplayedOnce(t *testing.T) {
	l := newLogged(t, 3)
	for range 2 {
		for _, b := range l.nodes {
			b.reads()
		}
	}
	require.Equal(t, 1, l.replayed)
	log, replayer := l.noted()
	require.Equal(t, log, replayer)
	require.Contains(t, log, "node-1 ")
	for _, b := range l.nodes {
		require.NoError(t, b.unpublish("target"))
		require.NoError(t, b.unstage())
		b.leavesNothing()
		b.reads()
	}
	require.Equal(t, 1, l.replayed)
}

// Of two nodes one replays; the other is told by whom, and comes again.
func TestOneNodeReplays(t *testing.T) {
	l := newLogged(t, 2)
	l.during = func() {
		err := l.nodes[1].stage(mountCapability(reader))
		require.Equal(t, codes.Aborted, server.Code(err))
		require.ErrorContains(t, err, "node node-1 replays the log")
		l.nodes[1].leavesNothing()
	}
	l.nodes[0].reads()
	l.nodes[1].reads()
	require.Equal(t, 1, l.replayed)
}

// While somebody writes to the volume nobody replays its log, and nobody reads.
func TestWriterIsLeftAlone(t *testing.T) {
	l := newLogged(t, 2)
	require.NoError(t, l.nodes[0].stage(mountCapability(writer)))
	err := l.nodes[1].stage(mountCapability(reader))
	require.Equal(t, codes.Aborted, server.Code(err))
	require.ErrorContains(t, err, "another client replays the log of the volume's filesystem, or writes to the volume")
	require.Zero(t, l.replayed)
	require.NoError(t, l.nodes[0].unstage())
	l.nodes[1].reads()
}

// A node that lost the lock, does not know it, and notes the log as replayed lets
// nobody read what another replays now. Nor does it read itself.
func TestLateNoteOfAReplay(t *testing.T) {
	l := newLogged(t, 3)
	lost, heir, third := l.nodes[0], l.nodes[1], l.nodes[2]
	l.during = func() {
		lost.attacher.Crash() // its lock is another's now
		l.during = func() {
			_, heir := l.noted()
			l.note("node-1 late", heir)
			require.Equal(t, codes.Aborted, server.Code(third.stage(mountCapability(reader))))
		}
		heir.reads()
	}
	require.Equal(t, codes.Aborted, server.Code(lost.stage(mountCapability(reader))), "it notes its own replay, late, and sees that of its heir")
	lost.leavesNothing()
	third.reads()
	lost.reads()
	require.Equal(t, 2, l.replayed)
}

// Once it may have been read, a volume is not written to, whoever broke off.
func TestNothingIsReplayedUnderReaders(t *testing.T) {
	l := newLogged(t, 2)
	l.nodes[0].reads()
	log, _ := l.noted()
	l.note(log, "node-3 died before it did anything")
	l.nodes[1].reads()
	require.Equal(t, 1, l.replayed)
	log, replayer := l.noted()
	require.Equal(t, log, replayer)
}

// The volumes of others are not written to: they are read as they are, and that is told.
func TestUnknownLogIsLeftAlone(t *testing.T) {
	l := newLogged(t, 1)
	l.note("", "")
	b := l.nodes[0]
	require.NoError(t, b.stage(mountCapability(reader)))
	require.Zero(t, l.replayed)
	health := b.health()
	require.Len(t, health, 1)
	require.Equal(t, LogNotReplayed, health[0].GetReason())
	require.Equal(t, csi.VolumeHealthErrorType_DEGRADED, health[0].GetStatus())
	require.NoError(t, b.unstage())
	b.host.FailWith(func(call string) error {
		if call == "MountWithoutLog" {
			return errCrash
		}
		return nil
	})
	require.ErrorIs(t, b.stage(mountCapability(reader)), errCrash)
	b.leavesNothing()
}

// What was replayed is not passed over when it is written to later.
func TestReplayedLogIsNotPassedOver(t *testing.T) {
	l := newLogged(t, 1)
	b := l.nodes[0]
	b.reads()
	require.NoError(t, b.unpublish("target"))
	require.NoError(t, b.unstage())
	l.unclean = true
	err := b.stage(mountCapability(reader))
	require.Equal(t, codes.FailedPrecondition, server.Code(err))
	require.ErrorContains(t, err, "mount it to write")
	b.leavesNothing()
}

// A raw block volume has nothing to replay; what is read raw is not replayed later.
func TestRawBlockHasNoLog(t *testing.T) {
	l := newLogged(t, 1)
	require.NoError(t, l.nodes[0].stage(blockCapability(reader)))
	require.True(t, l.nodes[0].attacher.Volume(l.nodes[0].code).ReadOnly)
	require.Zero(t, l.replayed)
	log, replayer := l.noted()
	require.Equal(t, log, replayer)
}

// A replay that fails, wherever, leaves nothing, and the next one does it.
func TestFailedReplay(t *testing.T) {
	failed := errors.New("no")
	for _, call := range []string{"Recover", "Fill", "Flush"} {
		l := newLogged(t, 1)
		b := l.nodes[0]
		b.host.FailWith(func(c string) error {
			if c == call {
				return failed
			}
			return nil
		})
		tracker := &step.Tracker{}
		_, err := b.NodeStageVolume(step.With(t.Context(), tracker), &csi.NodeStageVolumeRequest{
			VolumeId: b.code, StagingTargetPath: b.path("staging"), VolumeCapability: mountCapability(reader)})
		require.ErrorIs(t, err, failed, call)
		in, _ := tracker.Now()
		require.Contains(t, in, map[string]string{"Recover": "replay the log", "Fill": "fill its device", "Flush": "flush"}[call], "the step that failed")
		b.leavesNothing()
		log, _ := l.noted()
		require.Equal(t, imagemeta.LogPending, log)
		b.host.FailWith(nil)
		b.reads()
	}
}

// The log of an encrypted volume is replayed by who can open it.
func TestEncryptedLog(t *testing.T) {
	l := newLogged(t, 1)
	b := l.nodes[0]
	keys := &kms.Keys{}
	plain := b.attacher
	b.Keys, b.EncryptedAttacher = keys, plain
	b.Attacher = &fakeattach.Attacher{Connector: plain.Connector}
	_, record, err := keys.New(t.Context(), b.code, kms.Use{Secrets: map[string]string{secret.Field: encryptionKey}})
	require.NoError(t, err)
	require.NoError(t, b.stageWith(func(r *csi.NodeStageVolumeRequest) {
		r.VolumeCapability = mountCapability(reader)
		r.PublishContext[kms.MetadataKey], r.VolumeContext[EncryptedContext] = record, "true"
	}))
	require.Equal(t, 1, l.replayed)
	require.NotEmpty(t, plain.Volume(b.code).Passphrase)
}
