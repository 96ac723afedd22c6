package contract

import (
	"errors"
	"fmt"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func (s *suite) snapshots(t *testing.T) {
	ref := s.image(t, 8*mib)
	none, err := s.conn.ListSnapshots(s.ctx, ref)
	require.NoError(t, err)
	require.Empty(t, none)
	first := s.snapshot(t, ref, "one")
	require.Equal(t, "one", first.Name)
	require.Equal(t, ref.Name, first.Image)
	require.EqualValues(t, 8*mib, first.Size)
	require.Equal(t, s.info(t, ref).ID, first.Ref.ImageID)
	require.Nil(t, first.Group)
	require.WithinDuration(t, time.Now(), first.Created, time.Hour)
	require.Equal(t, first, s.snapshot(t, ref, "one"), "made once")
	require.NoError(t, s.conn.GrowImage(s.ctx, ref, 16*mib))
	second := s.snapshot(t, ref, "two")
	require.EqualValues(t, 16*mib, second.Size)
	require.Equal(t, first, s.snapshot(t, ref, "one"), "keeps its size")

	list, err := s.conn.ListSnapshots(s.ctx, ref)
	require.NoError(t, err)
	require.Equal(t, []ceph.SnapshotInfo{*first, *second}, list)
	found, err := s.conn.Snapshot(s.ctx, second.Ref)
	require.NoError(t, err)
	require.Equal(t, second, found)
	requireKind(t, ceph.Busy, s.conn.RemoveImage(s.ctx, ref))

	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, first.Ref))
	requireKind(t, ceph.NotFound, s.conn.RemoveSnapshot(s.ctx, first.Ref))
	_, err = s.conn.Snapshot(s.ctx, first.Ref)
	requireKind(t, ceph.NotFound, err)
	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, second.Ref))
	require.NoError(t, s.conn.RemoveImage(s.ctx, ref))
	_, err = s.conn.Snapshot(s.ctx, second.Ref)
	requireKind(t, ceph.NotFound, err)
	requireKind(t, ceph.NotFound, s.conn.RemoveSnapshot(s.ctx, second.Ref))
	_, err = s.conn.CreateSnapshot(s.ctx, ref, "three")
	requireKind(t, ceph.NotFound, err)
	_, err = s.conn.ListSnapshots(s.ctx, ref)
	requireKind(t, ceph.NotFound, err)
}

func (s *suite) snapshotData(t *testing.T) {
	w := s.write(t, 16*mib)
	held := map[uint64][]byte{}
	for i := range 3 {
		then := w.change(t, 30)
		held[s.snapshot(t, w.ref, fmt.Sprint(i)).Ref.SnapID] = then
	}
	now := w.change(t, 30)
	w.close(t)
	for id, then := range held {
		s.requireHolds(t, w.ref, ceph.OpenOptions{Snapshot: id}, then)
	}
	s.requireHolds(t, w.ref, ceph.OpenOptions{}, now)
	_, err := s.conn.OpenImage(s.ctx, w.ref, ceph.OpenOptions{Snapshot: 1 << 40})
	requireKind(t, ceph.NotFound, err)
}

func (s *suite) clones(t *testing.T) {
	w := s.write(t, 16*mib)
	held := w.change(t, 50)
	w.close(t)
	snap := s.snapshot(t, w.ref, "one")
	ref := ceph.ImageRef{PoolID: s.poolID, Name: "clone-" + uuid.NewString()}
	spec := ceph.ImageSpec{Size: 24 * mib, Metadata: map[string]string{"a": "1"}}
	require.NoError(t, s.conn.CloneImage(s.ctx, snap.Ref, ref, spec))
	requireKind(t, ceph.Exists, s.conn.CloneImage(s.ctx, snap.Ref, ref, spec))
	info := s.info(t, ref)
	require.Equal(t, spec.Metadata, info.Metadata, "its own, not its parent's")
	require.EqualValues(t, 24*mib, info.Size)
	require.Equal(t, &snap.Ref, info.Parent)
	s.requireHolds(t, ref, ceph.OpenOptions{}, append(append([]byte(nil), held...), make([]byte, 8*mib)...))

	small := ref
	small.Name += "-small"
	requireKind(t, ceph.Invalid, s.conn.CloneImage(s.ctx, snap.Ref, small, ceph.ImageSpec{Size: 8 * mib}))
	_, err := s.conn.ImageInfo(s.ctx, small)
	requireKind(t, ceph.NotFound, err)

	child := &written{ref: ref, random: w.random, holds: s.read(t, ref, ceph.OpenOptions{})}
	child.open(t, s, ceph.OpenOptions{Exclusive: true})
	changed := child.change(t, 50)
	child.close(t)
	s.requireHolds(t, ref, ceph.OpenOptions{}, changed)
	s.requireHolds(t, w.ref, ceph.OpenOptions{}, held, "the parent is as it was")

	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, snap.Ref), "while it has a clone")
	requireKind(t, ceph.NotFound, s.conn.RemoveSnapshot(s.ctx, snap.Ref))
	_, err = s.conn.Snapshot(s.ctx, snap.Ref)
	requireKind(t, ceph.NotFound, err)
	list, err := s.conn.ListSnapshots(s.ctx, w.ref)
	require.NoError(t, err)
	require.Empty(t, list)
	requireKind(t, ceph.NotFound, s.conn.CloneImage(s.ctx, snap.Ref, small, spec))
	s.requireHolds(t, ref, ceph.OpenOptions{}, changed, "the clone lives on")
	requireKind(t, ceph.Busy, s.conn.RemoveImage(s.ctx, w.ref))
	again := s.snapshot(t, w.ref, "one")
	require.NotEqual(t, snap.Ref, again.Ref, "the name is free")
	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, again.Ref))
	require.NoError(t, s.conn.RemoveImage(s.ctx, ref))
	require.NoError(t, s.conn.RemoveImage(s.ctx, w.ref), "the last clone took the snapshot with it")
	gone := snap.Ref
	requireKind(t, ceph.NotFound, s.conn.CloneImage(s.ctx, gone, ref, spec))
}

func (s *suite) flatten(t *testing.T) {
	w := s.write(t, 16*mib)
	held := w.change(t, 50)
	w.close(t)
	snap := s.snapshot(t, w.ref, "one")
	ref := s.clone(t, snap, "flat-"+uuid.NewString())
	var last, all uint64
	require.NoError(t, s.conn.FlattenImage(s.ctx, ref, func(done, total uint64) {
		require.LessOrEqual(t, done, total)
		last, all = done, total
	}))
	require.NotZero(t, all)
	require.NotZero(t, last)
	require.Nil(t, s.info(t, ref).Parent)
	require.NoError(t, s.conn.FlattenImage(s.ctx, ref, nil), "flat already")
	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, snap.Ref))
	require.NoError(t, s.conn.RemoveImage(s.ctx, w.ref))
	s.requireHolds(t, ref, ceph.OpenOptions{}, held)
	ref.Name = "absent"
	requireKind(t, ceph.NotFound, s.conn.FlattenImage(s.ctx, ref, nil))
}

// diffOf returns the extents between two snapshots, which are in order and apart.
func (s *suite) diffOf(t *testing.T, base *ceph.SnapshotRef, target ceph.SnapshotRef, offset int64) (list []ceph.Extent) {
	t.Helper()
	at := offset
	require.NoError(t, s.conn.Diff(s.ctx, base, target, offset, func(e ceph.Extent) error {
		require.GreaterOrEqual(t, e.Offset, at, "in order")
		require.Positive(t, e.Length)
		at = e.Offset + e.Length
		list = append(list, e)
		return nil
	}))
	return list
}

// requireDiff checks extents against a comparison of all bytes in blocks of 4 KiB.
func requireDiff(t *testing.T, base, target []byte, extents []ceph.Extent) {
	t.Helper()
	inside := make([]bool, len(target)/4096)
	for _, e := range extents {
		require.Zero(t, e.Offset%4096)
		require.Zero(t, e.Length%4096)
		for at := e.Offset; at < e.Offset+e.Length; at += 4096 {
			inside[at/4096] = true
			if e.Zero {
				require.Equal(t, string(make([]byte, 4096)), string(target[at:at+4096]), "a zero extent at %d", at)
			}
		}
	}
	for block, in := range inside {
		at := block * 4096
		if string(base[at:at+4096]) != string(target[at:at+4096]) {
			require.True(t, in, "the block at %d differs", at)
		}
	}
}

// from returns what of extents is at an offset or after it.
func from(offset int64, list []ceph.Extent) (rest []ceph.Extent) {
	for _, e := range list {
		if end := e.Offset + e.Length; end > offset {
			begin := max(e.Offset, offset)
			rest = append(rest, ceph.Extent{Offset: begin, Length: end - begin, Zero: e.Zero})
		}
	}
	return rest
}

func (s *suite) diffs(t *testing.T) {
	const size = 32 * mib
	w := s.write(t, size)
	before := w.change(t, 20)
	first := s.snapshot(t, w.ref, "0")
	requireDiff(t, make([]byte, size), before, s.diffOf(t, nil, first.Ref, 0))
	base := first
	for i := range 6 {
		after := w.change(t, 10)
		target := s.snapshot(t, w.ref, fmt.Sprint(i+1))
		extents := s.diffOf(t, &base.Ref, target.Ref, 0)
		requireDiff(t, before, after, extents)
		require.NotEmpty(t, extents)
		middle := extents[len(extents)/2].Offset
		require.Equal(t, extents[len(extents)/2:], s.diffOf(t, &base.Ref, target.Ref, middle), "from an offset on")
		requireDiff(t, make([]byte, size), after, s.diffOf(t, nil, target.Ref, 0))
		before, base = after, target
	}
	w.close(t)
	require.Empty(t, s.diffOf(t, &base.Ref, base.Ref, 0))
	require.Empty(t, s.diffOf(t, nil, base.Ref, size))
	idle := s.snapshot(t, w.ref, "idle")
	require.Empty(t, s.diffOf(t, &base.Ref, idle.Ref, 0), "nothing was written")

	enough := errors.New("enough")
	calls := 0
	err := s.conn.Diff(s.ctx, nil, base.Ref, 0, func(ceph.Extent) error { calls++; return enough })
	require.ErrorIs(t, err, enough)
	require.Equal(t, 1, calls)
	nothing := func(ceph.Extent) error { return nil }
	requireKind(t, ceph.Invalid, s.conn.Diff(s.ctx, &base.Ref, first.Ref, 0, nothing))
	other := s.snapshot(t, s.image(t, mib), "other")
	requireKind(t, ceph.Invalid, s.conn.Diff(s.ctx, &other.Ref, base.Ref, 0, nothing))
	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, first.Ref))
	requireKind(t, ceph.NotFound, s.conn.Diff(s.ctx, &first.Ref, base.Ref, 0, nothing))
	requireKind(t, ceph.NotFound, s.conn.Diff(s.ctx, nil, first.Ref, 0, nothing))
}

func (s *suite) diffsOfClones(t *testing.T) {
	const size = 16 * mib
	w := s.write(t, size)
	w.change(t, 20)
	w.close(t)
	ref := s.clone(t, s.snapshot(t, w.ref, "one"), "diff-"+uuid.NewString())
	child := &written{ref: ref, random: w.random, holds: s.read(t, ref, ceph.OpenOptions{})}
	first := s.snapshot(t, ref, "first")
	requireDiff(t, make([]byte, size), child.holds, s.diffOf(t, nil, first.Ref, 0))
	before := append([]byte(nil), child.holds...)
	child.open(t, s, ceph.OpenOptions{})
	after := child.change(t, 10)
	child.close(t)
	second := s.snapshot(t, ref, "second")
	requireDiff(t, before, after, s.diffOf(t, &first.Ref, second.Ref, 0))
	requireDiff(t, make([]byte, size), after, s.diffOf(t, nil, second.Ref, 0))
	for at := int64(mib); at < size; at += 3 * mib {
		require.Equal(t, from(at, s.diffOf(t, &first.Ref, second.Ref, 0)), s.diffOf(t, &first.Ref, second.Ref, at), "from %d on", at)
		require.Equal(t, from(at, s.diffOf(t, nil, second.Ref, 0)), s.diffOf(t, nil, second.Ref, at), "from %d on", at)
	}
	require.NoError(t, s.conn.FlattenImage(s.ctx, ref, nil))
	third := s.snapshot(t, ref, "third")
	requireDiff(t, before, after, s.diffOf(t, &first.Ref, third.Ref, 0))
	requireDiff(t, make([]byte, size), after, s.diffOf(t, nil, third.Ref, 0))
}
