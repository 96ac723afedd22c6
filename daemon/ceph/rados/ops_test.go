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

	ops := func(what string, f func() error) int64 {
		t.Helper()
		before, err := cluster.Ops()
		require.NoError(t, err)
		require.NoError(t, f())
		after, err := cluster.Ops()
		require.NoError(t, err)
		t.Logf("%-16s %3d ops", what, after-before)
		return after - before
	}
	count := func(what string, f func() error) { t.Helper(); ops(what, f) }
	// Ceph's own work counts along, now and then: of three calls the least is what one costs.
	limit := func(what string, most int64, f func(ceph.ImageRef) error) {
		t.Helper()
		least := most + 1
		for _, name := range []string{"one", "1", "i"} {
			least = min(least, ops(what, func() error { return f(ref(name)) }))
		}
		require.LessOrEqual(t, least, most, what)
	}
	var snap *ceph.SnapshotInfo
	count("nothing", func() error { return nil })
	limit("CreateImage", 12, func(image ceph.ImageRef) error {
		return conn.CreateImage(ctx, image, ceph.ImageSpec{Size: 1 << 30, Metadata: metadata})
	})
	count("ImageInfo", func() error { _, err := conn.ImageInfo(ctx, ref("one")); return err })
	count("SetImageMetadata", func() error { return conn.SetImageMetadata(ctx, ref("one"), metadata) })
	count("LimitImage", func() error { return conn.LimitImage(ctx, ref("one"), ceph.Limits{IOPS: 100}) })
	count("CreateSnapshot", func() (err error) { snap, err = conn.CreateSnapshot(ctx, ref("one"), "snap"); return err })
	count("again", func() (err error) { snap, err = conn.CreateSnapshot(ctx, ref("one"), "snap"); return err })
	count("Snapshot", func() error { _, err := conn.Snapshot(ctx, snap.Ref); return err })
	count("ListSnapshots", func() error { _, err := conn.ListSnapshots(ctx, ref("one")); return err })
	count("CloneImage", func() error {
		return conn.CloneImage(ctx, snap.Ref, ref("two"), ceph.ImageSpec{Size: 1 << 30, Metadata: metadata})
	})
	count("larger", func() error {
		return conn.CloneImage(ctx, snap.Ref, ref("three"), ceph.ImageSpec{Size: 2 << 30, Metadata: metadata})
	})
	count("GrowImage", func() error { return conn.GrowImage(ctx, ref("two"), 2<<30) })
	count("RemoveSnapshot", func() error { return conn.RemoveSnapshot(ctx, snap.Ref) })
	limit("HideImage", 25, func(image ceph.ImageRef) error { return conn.HideImage(ctx, image) })
	count("RemoveImage", func() error { return conn.RemoveImage(ctx, ref("two")) })
	count("FlattenImage", func() error { return conn.FlattenImage(ctx, ref("three"), nil) })
	group := ceph.GroupRef{PoolID: pool, Name: "group"}
	count("SnapshotGroup(2)", func() error {
		_, err := conn.SnapshotGroup(ctx, group, []ceph.ImageRef{ref("first"), ref("three")})
		return err
	})
	count("RemoveGroup(2)", func() error { return conn.RemoveGroup(ctx, group) })
	count("ListImages", func() error { _, err := conn.ListImages(ctx, pool, "", "", 100); return err })
	count("OpenImage", func() error {
		image, err := conn.OpenImage(ctx, ref("three"), ceph.OpenOptions{Exclusive: true})
		if err != nil {
			return err
		}
		return image.Close()
	})
}
