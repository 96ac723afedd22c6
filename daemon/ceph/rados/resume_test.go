package rados_test

import (
	"context"
	"testing"
	"time"

	librados "github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// raw opens a pool by librados itself, to leave there what a crash leaves.
func raw(t *testing.T, cluster *localceph.Cluster) *librados.IOContext {
	return rawPool(t, rawConn(t, cluster), "test")
}

func rawConn(t *testing.T, cluster *localceph.Cluster) *librados.Conn {
	conn, err := librados.NewConnWithUser("admin")
	require.NoError(t, err)
	require.NoError(t, conn.SetConfigOption("mon_host", cluster.MonHost))
	require.NoError(t, conn.SetConfigOption("key", cluster.AdminKey.Reveal()))
	require.NoError(t, conn.Connect())
	t.Cleanup(conn.Shutdown)
	return conn
}

func rawPool(t *testing.T, conn *librados.Conn, pool string) *librados.IOContext {
	ioctx, err := conn.OpenIOContext(pool)
	require.NoError(t, err)
	t.Cleanup(ioctx.Destroy)
	return ioctx
}

// TestResume repeats calls that were cut short at each step.
func TestResume(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	images := []ceph.ImageRef{{PoolID: pool, Name: "one"}, {PoolID: pool, Name: "two"}}
	for _, ref := range append(images, ceph.ImageRef{PoolID: pool, Name: "stray"}) {
		require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}))
	}
	add := func(image string) func(string) error {
		return func(group string) error { return rbd.GroupImageAdd(ioctx, group, ioctx, image) }
	}
	steps := []func(string) error{
		func(group string) error { return rbd.GroupCreate(ioctx, group) },
		add("one"), add("two"),
		func(group string) error { return rbd.GroupSnapCreate(ioctx, group, group) },
		func(group string) error { return rbd.GroupImageRemove(ioctx, group, ioctx, "one") },
	}
	leave := func(t *testing.T, group string, n int) {
		for _, step := range steps[:n] {
			require.NoError(t, step(group))
		}
	}
	for n := range len(steps) + 1 {
		group := ceph.GroupRef{PoolID: pool, Name: string(rune('a' + n))}
		leave(t, group.Name, n)
		info, err := conn.SnapshotGroup(ctx, group, images)
		require.NoError(t, err, "after %d steps", n)
		require.Len(t, info.Members, 2)
		left, err := rbd.GroupImageList(ioctx, group.Name)
		require.NoError(t, err)
		require.Empty(t, left, "images that are left in the group")
		require.NoError(t, conn.RemoveGroup(ctx, group))

		removed := ceph.GroupRef{PoolID: pool, Name: group.Name + "-removed"}
		leave(t, removed.Name, n)
		if err := conn.RemoveGroup(ctx, removed); n > 0 {
			require.NoError(t, err)
		}
	}
	stray := ceph.GroupRef{PoolID: pool, Name: "stray"}
	require.NoError(t, steps[0](stray.Name))
	require.NoError(t, add("stray")(stray.Name))
	_, err := conn.SnapshotGroup(ctx, ceph.GroupRef{PoolID: pool, Name: "other"}, append(images, ceph.ImageRef{PoolID: pool, Name: "stray"}))
	require.Equal(t, ceph.Busy, ceph.KindOf(err), "%v", err)
	_, err = conn.SnapshotGroup(ctx, stray, images)
	require.NoError(t, err, "what it began with is taken out")
	require.NoError(t, conn.RemoveGroup(ctx, stray))
	groups, err := rbd.GroupList(ioctx)
	require.NoError(t, err)
	require.Empty(t, groups)
	for _, ref := range images {
		snaps, err := conn.ListSnapshots(ctx, ref)
		require.NoError(t, err)
		require.Empty(t, snaps)
		require.NoError(t, conn.RemoveImage(ctx, ref))
	}
}

// TestResumeHide repeats a HideImage that was cut short.
func TestResumeHide(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	for n := range 3 {
		ref := ceph.ImageRef{PoolID: pool, Name: string(rune('a' + n))}
		require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}))
		name := make([]byte, 64)
		size, err := ioctx.Read("rbd_id."+ref.Name, name, 0)
		require.NoError(t, err)
		hidden := ceph.ImageRef{PoolID: pool, Name: ceph.HiddenPrefix + string(name[4:size])}
		if n == 0 {
			require.NoError(t, ioctx.WriteFull("rbd_id."+hidden.Name, name[:size]), "the new name leads to it")
		} else {
			require.NoError(t, conn.HideImage(ctx, ref))
			require.NoError(t, ioctx.WriteFull("rbd_id."+ref.Name, name[:size]), "the old name is left")
		}
		if n == 2 {
			require.NoError(t, conn.RemoveImage(ctx, hidden), "and purged")
			require.Equal(t, ceph.NotFound, ceph.KindOf(conn.HideImage(ctx, ref)))
			require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}), "its name is free")
			continue
		}
		require.NoError(t, conn.HideImage(ctx, ref))
		require.Equal(t, ceph.NotFound, ceph.KindOf(conn.HideImage(ctx, ref)))
		names, err := conn.ListImages(ctx, pool, "", "", 100)
		require.NoError(t, err)
		require.Contains(t, names, hidden.Name)
		require.NotContains(t, names, ref.Name)
		require.NoError(t, conn.RemoveImage(ctx, hidden))
	}
}

// TestFlattenEnds ends a flatten by its context.
func TestFlattenEnds(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	parent, clone := ceph.ImageRef{PoolID: pool, Name: "parent"}, ceph.ImageRef{PoolID: pool, Name: "clone"}
	const size = 256 * mib
	require.NoError(t, conn.CreateImage(t.Context(), parent, ceph.ImageSpec{Size: size}))
	image, err := conn.OpenImage(t.Context(), parent, ceph.OpenOptions{})
	require.NoError(t, err)
	for at := int64(0); at < size; at += mib {
		_, err := image.WriteAt([]byte("data"), at)
		require.NoError(t, err)
	}
	require.NoError(t, image.Close())
	snap, err := conn.CreateSnapshot(t.Context(), parent, "one")
	require.NoError(t, err)
	require.NoError(t, conn.CloneImage(t.Context(), snap.Ref, clone, ceph.ImageSpec{Size: size}))
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	var last, total uint64
	err = conn.FlattenImage(ctx, clone, func(done, all uint64) {
		last, total = done, all
		cancel()
	})
	require.Equal(t, ceph.Timeout, ceph.KindOf(err), "%v", err)
	require.Less(t, last, total)
	info, err := conn.ImageInfo(t.Context(), clone)
	require.NoError(t, err)
	require.Equal(t, &snap.Ref, info.Parent, "still a clone")
	require.NoError(t, conn.FlattenImage(t.Context(), clone, nil))
	require.NoError(t, conn.RemoveImage(t.Context(), clone))
}

// TestLimitsOfRunningWriter changes the limits of an image that is open elsewhere.
func TestLimitsOfRunningWriter(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	writer, _ := connect(t, cluster)
	ref := ceph.ImageRef{PoolID: pool, Name: "limited"}
	require.NoError(t, conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: 64 * mib}))
	image, err := writer.OpenImage(t.Context(), ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	write := func(times int) time.Duration {
		began := time.Now()
		for i := range times {
			_, err := image.WriteAt(make([]byte, 4096), int64(i)*4096)
			require.NoError(t, err)
		}
		return time.Since(began)
	}
	free := write(100)
	require.NoError(t, conn.LimitImage(t.Context(), ref, ceph.Limits{WriteIOPS: 50}))
	limited := write(150)
	require.NoError(t, conn.LimitImage(t.Context(), ref, ceph.Limits{}))
	t.Logf("100 writes without limit %s, 150 at 50 a second %s, 100 when the limit was lifted %s", free, limited, write(100))
	require.Greater(t, limited, 1500*time.Millisecond, "a limit is a lower bound of the time")
	require.NoError(t, image.Close())
}

// TestDeadlines asks a cluster that is gone: each call ends with its context.
func TestDeadlines(t *testing.T) {
	cluster := start(t)
	_, pool := connect(t, cluster)
	conn, err := rados.Connector{}.Connect(t.Context(), cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 5 * time.Second, OSDTimeout: 5 * time.Second})
	require.NoError(t, err)
	ref := ceph.ImageRef{PoolID: pool, Name: "one"}
	require.NoError(t, conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: mib}))
	snap, err := conn.CreateSnapshot(t.Context(), ref, "one")
	require.NoError(t, err)
	require.NoError(t, cluster.Stop())
	group := ceph.GroupRef{PoolID: pool, Name: "group"}
	for name, f := range map[string]func(context.Context) error{
		"PoolID":         func(ctx context.Context) error { _, err := conn.PoolID(ctx, "unknown"); return err },
		"ImagePools":     func(ctx context.Context) error { _, err := conn.ImagePools(ctx); return err },
		"PoolUsage":      func(ctx context.Context) error { _, err := conn.PoolUsage(ctx, pool); return err },
		"CreateImage":    func(ctx context.Context) error { return conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}) },
		"CloneImage":     func(ctx context.Context) error { return conn.CloneImage(ctx, snap.Ref, ref, ceph.ImageSpec{Size: mib}) },
		"ImageInfo":      func(ctx context.Context) error { _, err := conn.ImageInfo(ctx, ref); return err },
		"ListImages":     func(ctx context.Context) error { _, err := conn.ListImages(ctx, pool, "", "", 1); return err },
		"SetMetadata":    func(ctx context.Context) error { return conn.SetImageMetadata(ctx, ref, map[string]string{"a": "1"}) },
		"LimitImage":     func(ctx context.Context) error { return conn.LimitImage(ctx, ref, ceph.Limits{}) },
		"GrowImage":      func(ctx context.Context) error { return conn.GrowImage(ctx, ref, 2*mib) },
		"FlattenImage":   func(ctx context.Context) error { return conn.FlattenImage(ctx, ref, nil) },
		"HideImage":      func(ctx context.Context) error { return conn.HideImage(ctx, ref) },
		"RemoveImage":    func(ctx context.Context) error { return conn.RemoveImage(ctx, ref) },
		"OpenImage":      func(ctx context.Context) error { _, err := conn.OpenImage(ctx, ref, ceph.OpenOptions{}); return err },
		"CreateSnapshot": func(ctx context.Context) error { _, err := conn.CreateSnapshot(ctx, ref, "two"); return err },
		"Snapshot":       func(ctx context.Context) error { _, err := conn.Snapshot(ctx, snap.Ref); return err },
		"ListSnapshots":  func(ctx context.Context) error { _, err := conn.ListSnapshots(ctx, ref); return err },
		"RemoveSnapshot": func(ctx context.Context) error { return conn.RemoveSnapshot(ctx, snap.Ref) },
		"Diff": func(ctx context.Context) error {
			return conn.Diff(ctx, nil, snap.Ref, 0, func(ceph.Extent) error { return nil })
		},
		"SnapshotGroup": func(ctx context.Context) error {
			_, err := conn.SnapshotGroup(ctx, group, []ceph.ImageRef{ref})
			return err
		},
		"Group":       func(ctx context.Context) error { _, err := conn.Group(ctx, group); return err },
		"RemoveGroup": func(ctx context.Context) error { return conn.RemoveGroup(ctx, group) },
		"Blocklist":   func(ctx context.Context) error { return conn.Blocklist(ctx, "127.0.0.1:0/1", time.Minute) },
	} {
		t.Run(name, func(t *testing.T) {
			ctx, cancel := context.WithTimeout(t.Context(), 200*time.Millisecond)
			defer cancel()
			err := f(ctx)
			require.Equal(t, ceph.Timeout, ceph.KindOf(err), "%v", err)
			require.ErrorIs(t, err, context.DeadlineExceeded)
		})
	}
	require.NoError(t, conn.Close(), "once the cluster's own timeouts have ended the calls")
}

// TestNameLeadsNowhere makes images whose name a removal that was cut off left in
// the directory.
func TestNameLeadsNowhere(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	for name, passphrase := range map[string]ceph.Passphrase{"plain": "", "encrypted": ceph.Passphrase("a random passphrase of 32 bytes.")} {
		ref, spec := ceph.ImageRef{PoolID: pool, Name: name}, ceph.ImageSpec{Size: mib, Passphrase: passphrase}
		require.NoError(t, conn.CreateImage(ctx, ref, spec))
		info, err := conn.ImageInfo(ctx, ref)
		require.NoError(t, err)
		require.NoError(t, ioctx.Delete("rbd_id."+name))
		require.Equal(t, ceph.Exists, ceph.KindOf(conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib})), "there is a header: it is not for us to remove")
		require.NoError(t, ioctx.Delete("rbd_header."+info.ID))
		require.NoError(t, conn.CreateImage(ctx, ref, spec))
		again, err := conn.ImageInfo(ctx, ref)
		require.NoError(t, err)
		require.NotEqual(t, info.ID, again.ID)
		require.NoError(t, conn.RemoveImage(ctx, ref))
	}
}
