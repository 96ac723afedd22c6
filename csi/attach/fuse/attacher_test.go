package fuse

import (
	"bytes"
	"context"
	"os"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

// bench is an attacher over a modelled cluster with one image.
func bench(t *testing.T, size int64) (*Attacher, ceph.Conn, attach.Volume) {
	t.Helper()
	if os.Geteuid() != 0 {
		t.Skip("mounts and loop devices need root")
	}
	for _, path := range []string{"/dev/fuse", "/dev/loop-control"} {
		if _, err := os.Stat(path); err != nil {
			t.Skip("the kernel cannot: " + err.Error())
		}
	}
	cluster := model.New(fsid)
	conn, err := cluster.Connect(t.Context(), ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "p", Size: 1, Application: "rbd"}))
	pool, err := conn.PoolID(t.Context(), "p")
	require.NoError(t, err)
	ref := ceph.ImageRef{PoolID: pool, Name: "pvc-1"}
	require.NoError(t, conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: size}))
	code, err := volumeid.ID{FSID: fsid, Image: ref}.Encode()
	require.NoError(t, err)
	a := &Attacher{Dir: t.TempDir(), Connector: cluster}
	require.NoError(t, a.Clean())
	return a, conn, attach.Volume{ID: code, Image: ref, Exclusive: true, Credentials: ceph.Credentials{FSID: fsid}}
}

func limited(t *testing.T) context.Context {
	ctx, cancel := context.WithTimeout(t.Context(), 20*time.Second)
	t.Cleanup(cancel)
	return ctx
}

func TestDataGoesThrough(t *testing.T) {
	a, conn, v := bench(t, 64<<20)
	ctx := limited(t)
	device, err := a.Attach(ctx, v)
	require.NoError(t, err)
	again, err := a.Attach(ctx, v)
	require.NoError(t, err)
	require.Equal(t, device, again)
	require.Equal(t, int64(64<<20), device.Size)
	require.NotEmpty(t, device.ClientAddrs)

	disk, err := os.OpenFile(device.Path, os.O_RDWR, 0)
	require.NoError(t, err)
	data := bytes.Repeat([]byte("cairn..."), 1<<16)
	_, err = disk.WriteAt(data, 4<<20)
	require.NoError(t, err)
	require.NoError(t, disk.Sync())
	require.NoError(t, unix.Fallocate(int(disk.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, 4<<20, 8192))
	require.NoError(t, disk.Close())

	require.NoError(t, a.Detach(ctx, v.ID))
	require.NoError(t, a.Detach(ctx, v.ID), "once more")
	image, err := conn.OpenImage(ctx, v.Image, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err, "nobody holds the lock")
	got := make([]byte, len(data))
	_, err = image.ReadAt(got, 4<<20)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 8192), got[:8192], "the hole reads as zeroes")
	require.Equal(t, data[8192:], got[8192:])
	entries, err := os.ReadDir(a.Dir)
	require.NoError(t, err)
	require.Empty(t, entries)
}

func TestGrows(t *testing.T) {
	a, conn, v := bench(t, 16<<20)
	ctx := limited(t)
	device, err := a.Attach(ctx, v)
	require.NoError(t, err)
	require.NoError(t, conn.GrowImage(ctx, v.Image, 32<<20))
	grown, err := a.Resize(ctx, v.ID)
	require.NoError(t, err)
	require.Equal(t, device.Path, grown.Path)
	require.Equal(t, int64(32<<20), grown.Size)
	listed, err := a.List(ctx)
	require.NoError(t, err)
	require.Equal(t, []attach.Device{grown}, listed)
	require.NoError(t, a.Detach(ctx, v.ID))
	_, err = a.Resize(ctx, v.ID)
	require.Equal(t, fault.NotFound, fault.KindOf(err))
}

func TestAHeldDeviceStays(t *testing.T) {
	a, _, v := bench(t, 16<<20)
	ctx := limited(t)
	device, err := a.Attach(ctx, v)
	require.NoError(t, err)
	held, err := os.OpenFile(device.Path, os.O_RDONLY|unix.O_EXCL, 0)
	require.NoError(t, err)
	require.ErrorIs(t, a.Detach(ctx, v.ID), loop.ErrHeld)
	listed, err := a.List(ctx)
	require.NoError(t, err)
	require.Len(t, listed, 1)
	require.NoError(t, held.Close())
	drained := a.Drained()
	require.NoError(t, a.Detach(ctx, v.ID))
	<-drained
}

func TestRefusals(t *testing.T) {
	a, conn, v := bench(t, 16<<20)
	ctx := limited(t)
	foreign := v
	foreign.Image.Name = "other"
	_, err := a.Attach(ctx, foreign)
	require.ErrorContains(t, err, "not the image of volume")

	holder, err := conn.OpenImage(ctx, v.Image, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	_, err = a.Attach(ctx, v)
	require.Equal(t, ceph.Busy, ceph.KindOf(err))
	require.NoError(t, holder.Close())

	_, err = a.Attach(ctx, v)
	require.NoError(t, err)
	shared := v
	shared.Exclusive = false
	_, err = a.Attach(ctx, shared)
	require.Equal(t, fault.Conflict, fault.KindOf(err))
	require.NoError(t, a.Detach(ctx, v.ID))
}

func TestReadOnly(t *testing.T) {
	a, _, v := bench(t, 16<<20)
	v.ReadOnly, v.Exclusive = true, false
	ctx := limited(t)
	device, err := a.Attach(ctx, v)
	require.NoError(t, err)
	disk, err := os.OpenFile(device.Path, os.O_RDWR, 0)
	if err == nil {
		_, err = disk.WriteAt(make([]byte, 512), 0)
		if err == nil {
			err = disk.Sync()
		}
		require.NoError(t, disk.Close())
	}
	require.Error(t, err)
	require.NoError(t, a.Detach(ctx, v.ID))
}

// A process that starts after another died cleans up what that one left.
func TestCleansUpAfterACrash(t *testing.T) {
	a, _, v := bench(t, 16<<20)
	ctx := limited(t)
	device, err := a.Attach(ctx, v)
	require.NoError(t, err)
	backing := a.volumes[v.ID].state.File

	next := &Attacher{Dir: a.Dir, Connector: a.Connector}
	require.NoError(t, next.Clean())
	bound, err := loop.BoundTo(device.Path, backing)
	require.NoError(t, err)
	require.False(t, bound)
	entries, err := os.ReadDir(a.Dir)
	require.NoError(t, err)
	require.Empty(t, entries)
	<-a.volumes[v.ID].export.Done()
}
