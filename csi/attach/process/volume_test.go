package process

import (
	"bytes"
	"context"
	"os"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestDataGoesThrough(t *testing.T) {
	n := newNode(t)
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	again, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	require.Equal(t, device, again)
	require.Equal(t, int64(64<<20), device.Size)
	require.NotEmpty(t, device.ClientAddrs)
	n.keeps(v)

	disk, err := os.OpenFile(device.Path, os.O_RDWR, 0)
	require.NoError(t, err)
	data := bytes.Repeat([]byte("cairn..."), 1<<18) // 2 MiB: more than one request
	_, err = disk.WriteAt(data, 4<<20)
	require.NoError(t, err)
	require.NoError(t, disk.Sync())
	require.NoError(t, unix.Fallocate(int(disk.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4<<20, 8192))
	require.NoError(t, disk.Close())
	n.detach(v)
	require.NoError(t, n.client.Detach(n.ctx, v.ID), "once more")

	image, err := n.conn.OpenImage(n.ctx, v.Image, ceph.OpenOptions{ReadOnly: true})
	require.NoError(t, err)
	got := make([]byte, len(data))
	_, err = image.ReadAt(got, 4<<20)
	require.NoError(t, err)
	require.NoError(t, image.Close())
	require.Equal(t, make([]byte, 8192), got[:8192], "the hole reads as zeroes")
	require.True(t, bytes.Equal(data[8192:], got[8192:]))
}

func TestGrows(t *testing.T) {
	n := newNode(t)
	v := n.volume(16 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	require.NoError(t, n.conn.GrowImage(n.ctx, v.Image, 32<<20))
	grown, err := n.client.Resize(n.ctx, v.ID)
	require.NoError(t, err)
	require.Equal(t, device.Path, grown.Path)
	require.Equal(t, int64(32<<20), grown.Size)
	listed, err := n.client.List(n.ctx)
	require.NoError(t, err)
	require.Equal(t, []attach.Device{grown}, listed)
	n.detach(v)
	_, err = n.client.Resize(n.ctx, v.ID)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

func TestAHeldDeviceStays(t *testing.T) {
	n := newNode(t)
	v := n.volume(16 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	held, err := os.OpenFile(device.Path, os.O_RDONLY|unix.O_EXCL, 0)
	require.NoError(t, err)
	err = n.client.Detach(n.ctx, v.ID)
	require.Equal(t, fault.Refused, fault.KindOf(err))
	require.ErrorContains(t, err, loop.ErrHeld.Error())
	listed, err := n.client.List(n.ctx)
	require.NoError(t, err)
	require.Len(t, listed, 1)
	require.NoError(t, held.Close())
	n.detach(v)
}

func TestRefusals(t *testing.T) {
	n := newNode(t)
	v := n.volume(16 << 20)
	foreign := v
	foreign.Image.Name = "other"
	_, err := n.client.Attach(n.ctx, foreign)
	require.ErrorContains(t, err, "not the image of volume")

	holder, err := n.conn.OpenImage(n.ctx, v.Image, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	_, err = n.client.Attach(n.ctx, v)
	require.Equal(t, ceph.Busy, ceph.KindOf(err))
	require.NoError(t, holder.Close())

	_, err = n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	shared := v
	shared.Exclusive = false
	_, err = n.client.Attach(n.ctx, shared)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	n.detach(v)
}

func TestWithoutAKeeper(t *testing.T) {
	n := newNode(t)
	v := n.volume(16 << 20)
	n.keeper.end(syscall.SIGKILL)
	_, err := n.client.Attach(n.ctx, v)
	require.Equal(t, fault.Unavailable, fault.KindOf(err))
	n.startKeeper()
	require.Eventually(t, func() bool { _, err := n.client.Attach(n.ctx, v); return err == nil }, 20*time.Second, 5*time.Millisecond)
	n.detach(v)
}

// What a snapshot holds is attached read-only, beside its image, and outlives the
// process as well.
func TestSnapshot(t *testing.T) {
	n := newNode(t)
	v := n.volume(16 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	put(t, device.Path, 'a')
	n.detach(v)
	snapshot, err := n.conn.CreateSnapshot(n.ctx, v.Image, "s")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, n.conn.RemoveSnapshot(context.WithoutCancel(n.ctx), snapshot.Ref)) })
	_, err = n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	put(t, device.Path, 'b')
	n.detach(v)

	then := v
	then.Snapshot, then.ReadOnly = snapshot.Ref.SnapID, true
	device, err = n.client.Attach(n.ctx, then)
	require.NoError(t, err)
	require.True(t, device.ReadOnly)
	n.attach.end(syscall.SIGKILL)
	n.startAttach()
	require.Equal(t, byte('a'), get(t, device.Path))
	disk, err := os.OpenFile(device.Path, os.O_RDWR, 0)
	if err == nil {
		_, err = disk.WriteAt(make([]byte, 512), 0)
		if err == nil {
			err = disk.Sync()
		}
		require.NoError(t, disk.Close())
	}
	require.Error(t, err)
	n.detach(v)
}

// An encrypted image is opened with its passphrase, by the next process too.
func TestPassphrase(t *testing.T) {
	n := newNode(t)
	v := n.volume(32 << 20)
	require.NoError(t, n.conn.RemoveImage(n.ctx, v.Image))
	v.Passphrase = "correct horse battery staple"
	require.NoError(t, n.conn.CreateImage(n.ctx, v.Image, ceph.ImageSpec{Size: 32 << 20, Passphrase: v.Passphrase}))
	wrong := v
	wrong.Passphrase = "wrong"
	_, err := n.client.Attach(n.ctx, wrong)
	require.Error(t, err)
	require.NotContains(t, err.Error(), "wrong")
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	require.Equal(t, int64(32<<20), device.Size)
	put(t, device.Path, 'a')
	n.attach.end(syscall.SIGKILL)
	n.startAttach()
	require.Equal(t, byte('a'), get(t, device.Path))
	require.NotContains(t, n.attach.said.String(), string(v.Passphrase))
	n.detach(v)
}

// A raw volume that two nodes write to: each sees at once what the other was
// acknowledged, also when a process dies.
func TestShared(t *testing.T) {
	n, other := newNode(t), newNode(t)
	v := n.volume(16 << 20)
	v.Exclusive = false
	one, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	two, err := other.client.Attach(n.ctx, v)
	require.NoError(t, err)
	put(t, one.Path, 'a')
	require.Equal(t, byte('a'), get(t, two.Path))
	put(t, two.Path, 'b')
	n.attach.end(syscall.SIGKILL)
	n.startAttach()
	require.Equal(t, byte('b'), get(t, one.Path), "nothing older is written again")
	require.NoError(t, other.client.Detach(n.ctx, v.ID))
	n.detach(v)
}
