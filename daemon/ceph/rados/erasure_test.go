package rados_test

import (
	"strings"
	"testing"
	"time"

	librados "github.com/ceph/go-ceph/rados"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/contract"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// TestErasureCoded does with images whose data is erasure-coded what the driver does, as a user
// with RBD's profiles for the two pools: their bytes are in the one, and nothing is left in either.
func TestErasureCoded(t *testing.T) {
	cluster := start(t)
	t.Run("contract", func(t *testing.T) { contract.RunErasureCoded(t, rados.Connector{}, cluster.Credentials()) })
	admin, _ := connect(t, cluster)
	ctx := t.Context()
	data := ceph.PoolSpec{Name: "coded.data", Size: 3, DataChunks: 2, CodingChunks: 1, FailureDomain: "osd", Application: "rbd"}
	require.NoError(t, admin.EnsurePool(ctx, data))
	require.NoError(t, admin.EnsurePool(ctx, ceph.PoolSpec{Name: "coded", Size: 3, DataPool: data.Name, FailureDomain: "osd", Application: "rbd"}))
	key, err := admin.EnsureUser(ctx, "client.driver", ceph.Caps{"mon": "profile rbd", "osd": "profile rbd pool=coded, profile rbd pool=coded.data"})
	require.NoError(t, err)
	cred := cluster.Credentials()
	cred.User, cred.Key = "driver", key
	conn, err := rados.Connector{}.Connect(ctx, cred, ceph.ConnectOptions{MonTimeout: 60 * time.Second, OSDTimeout: 60 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	pool, err := conn.PoolID(ctx, "coded")
	require.NoError(t, err)

	image, clone := ceph.ImageRef{PoolID: pool, Name: "one"}, ceph.ImageRef{PoolID: pool, Name: "two"}
	spec := ceph.ImageSpec{Size: 8 * mib, DataPool: data.Name}
	require.NoError(t, conn.CreateImage(ctx, image, spec))
	fill := func(ref ceph.ImageRef, value string) {
		opened, err := conn.OpenImage(ctx, ref, ceph.OpenOptions{Exclusive: true})
		require.NoError(t, err)
		_, err = opened.WriteAt([]byte(strings.Repeat(value, mib)), 0)
		require.NoError(t, err)
		require.NoError(t, opened.Close())
	}
	fill(image, "a")
	direct := rawConn(t, cluster)
	headers, bytes := rawPool(t, direct, "coded"), rawPool(t, direct, data.Name)
	require.Empty(t, objectsOf(t, headers, "rbd_data."))
	require.Len(t, objectsOf(t, bytes, "rbd_data."), 1)
	require.NotEmpty(t, objectsOf(t, headers, "rbd_header."))
	snap, err := conn.CreateSnapshot(ctx, image, "snap")
	require.NoError(t, err)
	require.NoError(t, conn.CloneImage(ctx, snap.Ref, clone, spec))
	fill(image, "b")
	fill(clone, "c")
	require.Len(t, objectsOf(t, bytes, "rbd_data."), 2)
	require.Empty(t, objectsOf(t, headers, "rbd_data."))
	require.NoError(t, conn.FlattenImage(ctx, clone, nil))
	require.NoError(t, conn.RemoveSnapshot(ctx, snap.Ref))
	require.NoError(t, conn.HideImage(ctx, image))
	hidden := ceph.ImageRef{PoolID: pool, Name: ceph.HiddenPrefix + snap.Ref.ImageID}
	require.NoError(t, conn.RemoveImage(ctx, hidden))
	require.NoError(t, conn.RemoveImage(ctx, clone))
	require.Empty(t, objectsOf(t, bytes, "rbd_data."))
	for _, prefix := range []string{"rbd_data.", "rbd_header.", "rbd_id.", "rbd_object_map."} {
		require.Empty(t, objectsOf(t, headers, prefix))
	}
}

// objectsOf a pool whose names begin so.
func objectsOf(t *testing.T, pool *librados.IOContext, prefix string) (names []string) {
	require.NoError(t, pool.ListObjects(func(name string) {
		if strings.HasPrefix(name, prefix) {
			names = append(names, name)
		}
	}))
	return names
}
