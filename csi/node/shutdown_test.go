package node

import (
	"context"
	"errors"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// What pods use stays until they let go of it; what kubelet has mounted of it goes as well.
func TestShutDown(t *testing.T) {
	b := newBench(t)
	c := mountCapability(writer)
	require.NoError(t, b.stage(c))
	for _, target := range []string{"one", "two"} {
		require.NoError(t, b.publish(target, c))
	}
	require.NoError(t, b.host.Bind(t.Context(), b.path("one"), b.path("pods/1/volume-subpaths/data/0"), false))
	var busy atomic.Int32
	busy.Store(2)
	b.host.FailWith(func(call string) error {
		if call == "Unmount" && busy.Add(-1) >= 0 {
			return unix.EBUSY
		}
		return nil
	})
	require.NoError(t, b.ShutDown(t.Context()))
	require.Negative(t, busy.Load(), "it was tried until it went")
	b.leavesNothing()
	require.NoError(t, b.ShutDown(t.Context()), "nothing is left to do")
}

// The data path has ended by itself: nothing was in use any more.
func TestShutDownWithoutADataPath(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.stage(mountCapability(writer)))
	b.attacher.FailWith(fault.Errorf(fault.Unavailable, "the attach process does not answer"))
	require.NoError(t, b.ShutDown(t.Context()))
	mounts, err := b.host.List()
	require.NoError(t, err)
	require.Empty(t, mounts)
}

// Who has a device open is known to the data path alone.
func TestShutDownLeavesDevicesToTheDataPath(t *testing.T) {
	b := newBench(t)
	c := blockCapability(writer)
	require.NoError(t, b.stage(c))
	require.NoError(t, b.publish("target", c))
	require.NoError(t, b.ShutDown(t.Context()))
	devices, err := b.attacher.List(t.Context())
	require.NoError(t, err)
	require.Len(t, devices, 1)
}

var errHeld = errors.New("still mounted or held")

// stuck never lets go of a volume.
type stuck struct {
	attach.Attacher
	volume string
	tried  func()
}

func (s stuck) Detach(ctx context.Context, volume string) error {
	if volume == s.volume {
		s.tried()
		return errHeld
	}
	return s.Attacher.Detach(ctx, volume)
}

func TestOneVolumeThatStaysKeepsNoOther(t *testing.T) {
	b := newBench(t)
	c := mountCapability(writer)
	require.NoError(t, b.stage(c))
	other := *b
	other.ref = ceph.ImageRef{PoolID: b.ref.PoolID, Name: "pvc-2"}
	require.NoError(t, b.conn.CreateImage(t.Context(), other.ref, ceph.ImageSpec{Size: 1 << 30}))
	var err error
	other.code, err = volumeid.ID{FSID: fsid, Image: other.ref}.Encode()
	require.NoError(t, err)
	_, err = b.NodeStageVolume(t.Context(), &csi.NodeStageVolumeRequest{VolumeId: other.code, StagingTargetPath: b.path("other"), VolumeCapability: c})
	require.NoError(t, err)

	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	b.Attacher = stuck{b.attacher, b.code, func() {
		if r, err := b.Journal.Read(other.code); err == nil && r == nil {
			cancel() // the other one is down; this one never comes free
		}
	}}
	require.ErrorIs(t, b.ShutDown(ctx), errHeld)
	r, err := b.Journal.Read(other.code)
	require.NoError(t, err)
	require.Nil(t, r)
	r, err = b.Journal.Read(b.code)
	require.NoError(t, err)
	require.NotNil(t, r, "what is not down is not forgotten")
}
