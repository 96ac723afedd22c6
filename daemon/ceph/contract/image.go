package contract

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func (s *suite) list(t *testing.T) {
	prefix := "list-" + uuid.NewString() + "-"
	var want []string
	for _, name := range []string{"a", "b", "c", "d"} {
		want = append(want, prefix+name)
		require.NoError(t, s.conn.CreateImage(s.ctx, ceph.ImageRef{PoolID: s.poolID, Name: prefix + name}, ceph.ImageSpec{Size: mib}))
	}
	all, err := s.conn.ListImages(s.ctx, s.poolID, "", "", 1000)
	require.NoError(t, err)
	require.True(t, slices.IsSorted(all))
	require.Subset(t, all, want)
	page, err := s.conn.ListImages(s.ctx, s.poolID, "", prefix+"a", 2)
	require.NoError(t, err)
	require.Equal(t, want[1:3], page)
	none, err := s.conn.ListImages(s.ctx, s.poolID, "", "~", 10)
	require.NoError(t, err)
	require.Empty(t, none)
	_, err = s.conn.ListImages(s.ctx, s.poolID+1000, "", "", 10)
	requireKind(t, ceph.NotFound, err)
}

func (s *suite) hide(t *testing.T) {
	w := s.write(t, 8*mib)
	held := w.change(t, 20)
	id := s.info(t, w.ref).ID
	requireKind(t, ceph.Busy, s.conn.HideImage(s.ctx, w.ref))
	w.close(t)
	hidden := w.ref
	hidden.Name = ceph.HiddenPrefix + id
	requireKind(t, ceph.NotFound, s.conn.RemoveImage(s.ctx, hidden))
	s.requireHolds(t, w.ref, ceph.OpenOptions{}, held)
	snap := s.snapshot(t, w.ref, "one")
	clone := s.clone(t, snap, "of-hidden-"+id)
	require.NoError(t, s.conn.HideImage(s.ctx, w.ref))
	requireKind(t, ceph.NotFound, s.conn.HideImage(s.ctx, w.ref))
	_, err := s.conn.ImageInfo(s.ctx, w.ref)
	requireKind(t, ceph.NotFound, err)

	require.NoError(t, s.conn.HideImage(s.ctx, hidden), "hidden already")
	require.Equal(t, id, s.info(t, hidden).ID)
	names, err := s.conn.ListImages(s.ctx, s.poolID, "", ceph.HiddenPrefix, 1000)
	require.NoError(t, err)
	require.Contains(t, names, hidden.Name)
	require.NoError(t, s.conn.CreateImage(s.ctx, w.ref, ceph.ImageSpec{Size: mib}), "its name is free")

	found, err := s.conn.Snapshot(s.ctx, snap.Ref)
	require.NoError(t, err)
	require.Equal(t, hidden.Name, found.Image)
	s.requireHolds(t, clone, ceph.OpenOptions{}, held)
	second := s.clone(t, snap, "again-of-hidden-"+id)
	s.requireHolds(t, second, ceph.OpenOptions{}, held)
	requireKind(t, ceph.Busy, s.conn.RemoveImage(s.ctx, hidden))
	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, snap.Ref))
	requireKind(t, ceph.Busy, s.conn.RemoveImage(s.ctx, hidden))
	require.NoError(t, s.conn.RemoveImage(s.ctx, clone))
	require.NoError(t, s.conn.FlattenImage(s.ctx, second, nil))
	require.NoError(t, s.conn.RemoveImage(s.ctx, hidden), "the last clone took the snapshot with it")
	s.requireHolds(t, second, ceph.OpenOptions{}, held)
}

func (s *suite) limits(t *testing.T) {
	ref := s.image(t, mib)
	require.Zero(t, s.info(t, ref).Limits)
	opened, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	other := connect(s.ctx, t, s.connector, s.cred)
	for _, limits := range []ceph.Limits{{IOPS: 100, Bandwidth: mib}, {ReadIOPS: 7, WriteBandwidth: 1 << 40}, {}} {
		for range 2 {
			require.NoError(t, other.LimitImage(s.ctx, ref, limits), "while another client owns the lock")
			require.Equal(t, limits, s.info(t, ref).Limits)
		}
	}
	require.NoError(t, s.conn.LimitImage(s.ctx, ref, ceph.Limits{IOPS: 100}))
	require.NoError(t, opened.Close())
	require.Len(t, s.info(t, ref).Metadata, 1, "limits are no metadata")
	clone := s.clone(t, s.snapshot(t, ref, "one"), "unlimited-"+uuid.NewString())
	require.Zero(t, s.info(t, clone).Limits, "a clone has limits of its own")
	ref.Name = "absent"
	requireKind(t, ceph.NotFound, s.conn.LimitImage(s.ctx, ref, ceph.Limits{IOPS: 1}))
}
