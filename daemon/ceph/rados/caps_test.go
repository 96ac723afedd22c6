package rados_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// TestDriverCaps does what the driver's controller does, as a user with no more
// than RBD's profiles for one pool.
func TestDriverCaps(t *testing.T) {
	cluster := start(t)
	admin, pool := connect(t, cluster)
	ctx := t.Context()
	other := ceph.PoolSpec{Name: "other", Size: 2, FailureDomain: "osd", Application: "rbd"}
	require.NoError(t, admin.EnsurePool(ctx, other))
	key, err := admin.EnsureUser(ctx, "client.driver", ceph.Caps{"mon": "profile rbd", "osd": "profile rbd pool=test"})
	require.NoError(t, err)
	cred := cluster.Credentials()
	cred.User, cred.Key = "driver", key
	conn, err := rados.Connector{}.Connect(ctx, cred, ceph.ConnectOptions{MonTimeout: 10 * time.Second, OSDTimeout: 10 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })

	pools, err := conn.ImagePools(ctx)
	require.NoError(t, err)
	require.Equal(t, []ceph.PoolName{{ID: pool, Name: "test"}}, pools, "not the pool that it has no caps for")
	usage, err := conn.PoolUsage(ctx, pool)
	require.NoError(t, err)
	require.Equal(t, "test", usage.Name)
	image, clone := ceph.ImageRef{PoolID: pool, Name: "one"}, ceph.ImageRef{PoolID: pool, Name: "two"}
	require.NoError(t, conn.CreateImage(ctx, image, ceph.ImageSpec{Size: mib}))
	snap, err := conn.CreateSnapshot(ctx, image, "snap")
	require.NoError(t, err)
	require.NoError(t, conn.CloneImage(ctx, snap.Ref, clone, ceph.ImageSpec{Size: mib}))
	require.NoError(t, conn.LimitImage(ctx, clone, ceph.Limits{IOPS: 1}))
	group := ceph.GroupRef{PoolID: pool, Name: "group"}
	_, err = conn.SnapshotGroup(ctx, group, []ceph.ImageRef{image, clone})
	require.NoError(t, err)
	require.NoError(t, conn.RemoveGroup(ctx, group))
	require.NoError(t, conn.RemoveSnapshot(ctx, snap.Ref))
	require.NoError(t, conn.HideImage(ctx, image))
	require.NoError(t, conn.RemoveImage(ctx, clone))
	require.NoError(t, conn.Blocklist(ctx, "127.0.0.1:0/12345", time.Minute))
}
