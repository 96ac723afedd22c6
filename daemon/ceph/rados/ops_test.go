package rados_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const mib = 1 << 20

// TestOps counts what each call costs, by the OSDs' own counters. The limits are
// those that the driver promises; a call without one is printed only.
func TestOps(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ctx := t.Context()
	ref := func(name string) ceph.ImageRef { return ceph.ImageRef{PoolID: pool, Name: name} }
	metadata := map[string]string{"a": "1", "b": "2"}
	require.NoError(t, conn.CreateImage(ctx, ref("first"), ceph.ImageSpec{Size: mib}), "the pool's first image makes its directory")

	count := func(what string, most int64, f func() error) {
		t.Helper()
		before, err := cluster.Ops()
		require.NoError(t, err)
		require.NoError(t, f())
		after, err := cluster.Ops()
		require.NoError(t, err)
		t.Logf("%-16s %3d ops", what, after-before)
		if most > 0 {
			require.LessOrEqual(t, after-before, most, what)
		}
	}
	var snap *ceph.SnapshotInfo
	count("nothing", 0, func() error { return nil })
	count("CreateImage", 12, func() error {
		return conn.CreateImage(ctx, ref("one"), ceph.ImageSpec{Size: 1 << 30, Metadata: metadata})
	})
	count("ImageInfo", 0, func() error { _, err := conn.ImageInfo(ctx, ref("one")); return err })
	count("SetImageMetadata", 0, func() error { return conn.SetImageMetadata(ctx, ref("one"), metadata) })
	count("LimitImage", 0, func() error { return conn.LimitImage(ctx, ref("one"), ceph.Limits{IOPS: 100}) })
	count("CreateSnapshot", 0, func() (err error) { snap, err = conn.CreateSnapshot(ctx, ref("one"), "snap"); return err })
	count("again", 0, func() (err error) { snap, err = conn.CreateSnapshot(ctx, ref("one"), "snap"); return err })
	count("Snapshot", 0, func() error { _, err := conn.Snapshot(ctx, snap.Ref); return err })
	count("ListSnapshots", 0, func() error { _, err := conn.ListSnapshots(ctx, ref("one")); return err })
	count("CloneImage", 0, func() error {
		return conn.CloneImage(ctx, snap.Ref, ref("two"), ceph.ImageSpec{Size: 1 << 30, Metadata: metadata})
	})
	count("larger", 0, func() error {
		return conn.CloneImage(ctx, snap.Ref, ref("three"), ceph.ImageSpec{Size: 2 << 30, Metadata: metadata})
	})
	count("GrowImage", 0, func() error { return conn.GrowImage(ctx, ref("two"), 2<<30) })
	count("RemoveSnapshot", 0, func() error { return conn.RemoveSnapshot(ctx, snap.Ref) })
	count("HideImage", 25, func() error { return conn.HideImage(ctx, ref("one")) })
	count("RemoveImage", 0, func() error { return conn.RemoveImage(ctx, ref("two")) })
	count("FlattenImage", 0, func() error { return conn.FlattenImage(ctx, ref("three"), nil) })
	group := ceph.GroupRef{PoolID: pool, Name: "group"}
	count("SnapshotGroup(2)", 0, func() error {
		_, err := conn.SnapshotGroup(ctx, group, []ceph.ImageRef{ref("first"), ref("three")})
		return err
	})
	count("RemoveGroup(2)", 0, func() error { return conn.RemoveGroup(ctx, group) })
	count("ListImages", 0, func() error { _, err := conn.ListImages(ctx, pool, "", "", 100); return err })
	count("OpenImage", 0, func() error {
		image, err := conn.OpenImage(ctx, ref("three"), ceph.OpenOptions{Exclusive: true})
		if err != nil {
			return err
		}
		return image.Close()
	})
}
