package rados

import (
	"encoding/binary"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// TestOpenSeesASnapshotThatItWasNotToldOf makes a snapshot after librbd has read an
// image's snapshots, without a word to those that watch the image: what is written
// afterwards must not change it.
func TestOpenSeesASnapshotThatItWasNotToldOf(t *testing.T) {
	cluster, err := localceph.Start(t.Context(), t.TempDir(), localceph.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	connected, err := Connector{}.Connect(t.Context(), cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connected.Close()) })
	require.NoError(t, connected.EnsurePool(t.Context(), ceph.PoolSpec{Name: "test", Size: 2, FailureDomain: "osd", Application: "rbd"}))
	pool, err := connected.PoolID(t.Context(), "test")
	require.NoError(t, err)
	ioctx, err := connected.(*conn).openPool("test", pool, "")
	require.NoError(t, err)
	t.Cleanup(ioctx.Destroy)

	ref, other := ceph.ImageRef{PoolID: pool, Name: "late"}, ceph.ImageRef{PoolID: pool, Name: "other"}
	for _, image := range []ceph.ImageRef{ref, other} {
		require.NoError(t, connected.CreateImage(t.Context(), image, ceph.ImageSpec{Size: 8 << 20}))
	}
	// The IDs of snapshots are the pool's: this one is free for another image.
	given, err := connected.CreateSnapshot(t.Context(), other, "gives an ID")
	require.NoError(t, err)

	opened, err := rbd.OpenImage(ioctx, ref.Name, rbd.NoSnapshot)
	require.NoError(t, err)
	_, err = opened.WriteAt([]byte("before"), 0)
	require.NoError(t, err)
	require.NoError(t, opened.Flush())
	id, err := opened.GetId()
	require.NoError(t, err)
	silent := binary.LittleEndian.AppendUint64(appendText(nil, "silent"), given.Ref.SnapID)
	silent = append(silent, 1, 1, 4, 0, 0, 0, 0, 0, 0, 0) // in the users' namespace
	add := rados.CreateWriteOp()
	defer add.Release()
	add.Exec("rbd", "snapshot_add", silent)
	require.NoError(t, add.Operate(ioctx, headerObject+id, rados.OperationNoFlag))

	require.NoError(t, prepare(ioctx, opened, ceph.OpenOptions{Exclusive: true}))
	_, err = opened.WriteAt([]byte("after!"), 0)
	require.NoError(t, err)
	require.NoError(t, opened.Close())

	for snapshot, want := range map[uint64]string{given.Ref.SnapID: "before", 0: "after!"} {
		image, err := connected.OpenImage(t.Context(), ref, ceph.OpenOptions{ReadOnly: true, Snapshot: snapshot})
		require.NoError(t, err)
		data := make([]byte, len(want))
		_, err = image.ReadAt(data, 0)
		require.NoError(t, err)
		require.NoError(t, image.Close())
		require.Equal(t, want, string(data), "snapshot %d", snapshot)
	}
}
