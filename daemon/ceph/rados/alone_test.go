package rados

import (
	"context"
	"encoding/binary"
	"os/exec"
	"strconv"
	"testing"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/localceph"
)

const aloneSize = 64 << 20

// aloneSite is a Ceph with a pool, for snapshots of images that nobody has open.
type aloneSite struct {
	*testing.T
	cluster *localceph.Cluster
	conn    *conn
	pool    int64
}

func newAloneSite(t *testing.T) *aloneSite {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{})
	require.NoError(t, err, "Ceph's daemons are in the build root")
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	s := &aloneSite{T: t, cluster: cluster}
	s.conn = s.connect()
	require.NoError(t, s.conn.EnsurePool(ctx, ceph.PoolSpec{Name: "test", Size: 2, FailureDomain: "osd", Application: "rbd"}))
	s.pool, err = s.conn.PoolID(ctx, "test")
	require.NoError(t, err)
	return s
}

func (s *aloneSite) connect() *conn {
	c, err := Connector{}.Connect(s.Context(), s.cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(s, err)
	s.Cleanup(func() { require.NoError(s, c.Close()) })
	return c.(*conn)
}

func (s *aloneSite) pools(c *conn) *rados.IOContext {
	ioctx, err := c.openPool("test", s.pool, "")
	require.NoError(s, err)
	s.Cleanup(ioctx.Destroy)
	return ioctx
}

func (s *aloneSite) image(name string) ceph.ImageRef {
	ref := ceph.ImageRef{PoolID: s.pool, Name: name}
	require.NoError(s, s.conn.CreateImage(s.Context(), ref, ceph.ImageSpec{Size: aloneSize}))
	return ref
}

// write writes numbers at offsets, as the one who has the image.
func (s *aloneSite) write(c *conn, ref ceph.ImageRef, numbers map[int64]uint64) {
	image, err := c.OpenImage(s.Context(), ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(s, err)
	for at, number := range numbers {
		_, err := image.WriteAt(binary.LittleEndian.AppendUint64(nil, number), at)
		require.NoError(s, err)
	}
	require.NoError(s, image.Close())
}

func (s *aloneSite) read(ref ceph.ImageRef, snap uint64, at int64) uint64 {
	image, err := s.conn.OpenImage(s.Context(), ref, ceph.OpenOptions{ReadOnly: true, Snapshot: snap})
	require.NoError(s, err)
	data := make([]byte, 8)
	_, err = image.ReadAt(data, at)
	require.NoError(s, err)
	require.NoError(s, image.Close())
	return binary.LittleEndian.Uint64(data)
}

func (s *aloneSite) snapshot(ref ceph.ImageRef, name string) *ceph.SnapshotInfo {
	ctx, cancel := context.WithTimeout(s.Context(), time.Minute)
	defer cancel()
	info, err := s.conn.CreateSnapshot(ctx, ref, name)
	require.NoError(s, err)
	require.Equal(s, name, info.Name)
	require.WithinDuration(s, time.Now(), info.Created, time.Minute)
	require.EqualValues(s, aloneSize, info.Size)
	list, err := s.conn.ListSnapshots(ctx, ref)
	require.NoError(s, err)
	require.Contains(s, list, *info, "as librbd reads it")
	return info
}

// changed reports whether the difference from one snapshot to another has an offset.
func (s *aloneSite) changed(from, to *ceph.SnapshotInfo, at int64) bool {
	found := false
	require.NoError(s, s.conn.Diff(s.Context(), &from.Ref, to.Ref, 0, func(e ceph.Extent) error {
		found = found || e.Offset <= at && at < e.Offset+e.Length
		return nil
	}))
	return found
}

// whole has Ceph's own tool compare the object maps with the objects.
func (s *aloneSite) whole(ref ceph.ImageRef, snaps ...string) {
	for _, of := range append([]string{""}, snaps...) {
		spec := "test/" + ref.Name
		if of != "" {
			spec += "@" + of
		}
		out, err := exec.CommandContext(s.Context(), "rbd", "-c", s.cluster.ConfFile(), "object-map", "check", spec, "--no-progress").CombinedOutput()
		require.NoError(s, err, "%s: %s", spec, out)
		out, err = exec.CommandContext(s.Context(), "rbd", "-c", s.cluster.ConfFile(), "info", spec).CombinedOutput()
		require.NoError(s, err, "%s: %s", spec, out)
		require.NotContains(s, string(out), "invalid", spec)
	}
}

// A snapshot of an image that nobody has open leaves what librbd leaves.
func TestSnapshotAloneIsAsLibrbdMakesIt(t *testing.T) {
	s := newAloneSite(t)
	ioctx := s.pools(s.conn)
	ours, theirs := s.image("ours"), s.image("theirs")
	var last [2]*ceph.SnapshotInfo
	for round := range 3 {
		numbers := map[int64]uint64{0: uint64(round), int64(round+1) << 22: 7}
		s.write(s.conn, ours, numbers)
		s.write(s.conn, theirs, numbers)
		name := "s" + strconv.Itoa(round)
		made, err := snapshotAlone("test", ioctx, ours, name)
		require.NoError(t, err)
		require.NotNil(t, made, "it is made here")
		require.Equal(t, made, s.snapshot(ours, name), "made once")
		image, err := rbd.OpenImage(ioctx, theirs.Name, rbd.NoSnapshot)
		require.NoError(t, err)
		_, err = image.CreateSnapshot(name)
		require.NoError(t, err)
		require.NoError(t, image.Close())
		like := s.snapshot(theirs, name)
		for _, suffix := range []string{"", "." + padded(made.Ref.SnapID)} {
			other := suffix
			if suffix != "" {
				other = "." + padded(like.Ref.SnapID)
			}
			require.Equal(t, s.object(ioctx, objectMap+like.Ref.ImageID+other), s.object(ioctx, objectMap+made.Ref.ImageID+suffix))
		}
		for _, object := range []string{headerObject, objectMap} {
			info, err := ioctx.ListLockers(object+made.Ref.ImageID, lockName)
			require.NoError(t, err)
			require.Zero(t, info.NumLockers)
		}
		require.NoError(t, unwatched("test", ioctx, made.Ref.ImageID))
		now := [2]*ceph.SnapshotInfo{made, like}
		for i, from := range last {
			if from != nil {
				require.True(t, s.changed(from, now[i], 0))
				require.True(t, s.changed(from, now[i], int64(round+1)<<22))
				require.False(t, s.changed(from, now[i], 1<<22), "nobody wrote there")
			}
		}
		last = now
	}
	s.whole(ours, "s0", "s1", "s2")
	for round := range uint64(3) {
		list, err := s.conn.ListSnapshots(t.Context(), ours)
		require.NoError(t, err)
		require.Equal(t, round, s.read(ours, list[round].Ref.SnapID, 0))
	}
	list, err := s.conn.ListSnapshots(t.Context(), ours)
	require.NoError(t, err)
	for _, info := range list {
		require.NoError(t, s.conn.RemoveSnapshot(t.Context(), info.Ref))
	}
	s.whole(ours)
	require.NoError(t, s.conn.RemoveImage(t.Context(), ours))
}

func padded(snap uint64) string {
	const digits = "0000000000000000"
	text := strconv.FormatUint(snap, 16)
	return digits[len(text):] + text
}

func (s *aloneSite) object(ioctx *rados.IOContext, name string) []byte {
	data := make([]byte, 1<<16)
	n, err := ioctx.Read(name, data, 0)
	require.NoError(s, err, name)
	return data[:n]
}

// What is unusual is left to librbd, and nothing is changed.
func TestSnapshotAloneLeavesTheRestToLibrbd(t *testing.T) {
	s := newAloneSite(t)
	ioctx := s.pools(s.conn)
	left := func(ref ceph.ImageRef) {
		t.Helper()
		made, err := snapshotAlone("test", ioctx, ref, "left")
		require.NoError(t, err)
		require.Nil(t, made)
		s.snapshot(ref, "left")
	}
	plain := ceph.ImageRef{PoolID: s.pool, Name: "no-object-map"}
	require.NoError(t, s.conn.CreateImage(t.Context(), plain, ceph.ImageSpec{Size: aloneSize, Features: []string{"layering", "exclusive-lock"}}))
	left(plain)
	used, other := s.image("used"), s.connect()
	for _, options := range []ceph.OpenOptions{{Exclusive: true}, {}} {
		image, err := other.OpenImage(t.Context(), used, options)
		require.NoError(t, err)
		made, err := snapshotAlone("test", ioctx, used, "used")
		require.NoError(t, err)
		require.Nil(t, made)
		require.NoError(t, image.Close())
	}
	_, err := snapshotAlone("test", ioctx, ceph.ImageRef{PoolID: s.pool, Name: "absent"}, "s")
	require.ErrorIs(t, err, rados.ErrNotFound)
	id, err := imageID(ioctx, used.Name)
	require.NoError(t, err)
	require.NoError(t, ioctx.Delete(objectMap+id), "its object map is lost")
	left(used)
}

// TestSnapshotAloneCutOff ends the process that makes a snapshot after each step.
func TestSnapshotAloneCutOff(t *testing.T) {
	s := newAloneSite(t)
	for cut := range 5 {
		ref := s.image("cut" + strconv.Itoa(cut))
		s.write(s.conn, ref, map[int64]uint64{0: 1, 8 << 20: 1})
		a := alone{ioctx: s.pools(s.connect()), ref: ref}
		var err error
		a.id, err = imageID(a.ioctx, ref.Name)
		require.NoError(t, err)
		_, plain, err := a.look()
		require.NoError(t, err)
		require.True(t, plain)
		snap, err := a.allocate()
		require.NoError(t, err)
		watching, err := a.watch()
		require.NoError(t, err)
		version := uint64(0)
		for _, step := range []func() error{
			func() error { return a.lock(watching.cookie()) },
			func() (err error) { version, err = a.copyMap(snap); return err },
			func() error { return a.add("first", watching.cookie(), snap) },
			func() error { return a.beginAnew(version) },
		}[:cut] {
			require.NoError(t, step())
		}
		require.NoError(t, watching.end(), "its watch ends with the process, its lock stays")

		first := s.snapshot(ref, "first")
		if cut > 2 {
			require.Equal(t, snap, first.Ref.SnapID, "it was made")
		}
		s.write(s.conn, ref, map[int64]uint64{0: 2, 16 << 20: 2})
		second := s.snapshot(ref, "second")
		require.True(t, s.changed(first, second, 0), "after %d steps", cut)
		require.True(t, s.changed(first, second, 16<<20), "after %d steps", cut)
		require.EqualValues(t, 1, s.read(ref, first.Ref.SnapID, 0))
		require.EqualValues(t, 0, s.read(ref, first.Ref.SnapID, 16<<20))
		require.EqualValues(t, 2, s.read(ref, second.Ref.SnapID, 0))
		if cut == 3 {
			continue // as with librbd: the second's map calls changed what is older than the first
		}
		s.whole(ref, "first", "second")
	}
}

// Snapshots are made while others open the image, write and close it, and none of
// them is cut off.
func TestSnapshotAloneAmongOthers(t *testing.T) {
	s := newAloneSite(t)
	ref, writer := s.image("shared"), s.connect()
	const one, two, many = 0, 32 << 20, 20
	s.write(writer, ref, map[int64]uint64{one: 1, two: 1})
	stop, ended := make(chan struct{}), make(chan struct{})
	go func() {
		defer close(ended)
		for number := uint64(2); ; number++ {
			select {
			case <-stop:
				return
			default:
			}
			s.write(writer, ref, map[int64]uint64{one: number})
			s.write(writer, ref, map[int64]uint64{two: number})
		}
	}()
	type pair struct{ one, two uint64 }
	var snaps []*ceph.SnapshotInfo
	var seen []pair
	var names []string
	ioctx, alone := s.pools(s.conn), 0
	for i := range many {
		names = append(names, "s"+strconv.Itoa(i))
		made, err := snapshotAlone("test", ioctx, ref, names[i])
		require.NoError(t, err)
		if made != nil {
			alone++
		}
		info := s.snapshot(ref, names[i])
		now := pair{s.read(ref, info.Ref.SnapID, one), s.read(ref, info.Ref.SnapID, two)}
		require.True(t, now.one == now.two || now.one == now.two+1, "%v is no moment that there was", now)
		snaps, seen = append(snaps, info), append(seen, now)
	}
	close(stop)
	<-ended
	t.Logf("%d of %d snapshots were made while nobody had the image open", alone, many)
	for i, info := range snaps {
		require.Equal(t, seen[i], pair{s.read(ref, info.Ref.SnapID, one), s.read(ref, info.Ref.SnapID, two)}, "%s stays as it was", info.Name)
		if i > 0 {
			require.True(t, seen[i-1].one == seen[i].one || s.changed(snaps[i-1], info, one))
			require.True(t, seen[i-1].two == seen[i].two || s.changed(snaps[i-1], info, two))
		}
	}
	s.whole(ref, names...)
	blocked, err := exec.CommandContext(t.Context(), "ceph", "-c", s.cluster.ConfFile(), "osd", "blocklist", "ls").Output()
	require.NoError(t, err)
	require.Empty(t, string(blocked))
}
