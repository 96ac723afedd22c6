package contract

import (
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func (s *suite) groups(t *testing.T) {
	one, two := s.write(t, 8*mib), s.write(t, 12*mib)
	images := []ceph.ImageRef{one.ref, two.ref}
	group := ceph.GroupRef{PoolID: s.poolID, Name: "group-" + uuid.NewString()}
	_, err := s.conn.Group(s.ctx, group)
	requireKind(t, ceph.NotFound, err)
	requireKind(t, ceph.NotFound, s.conn.RemoveGroup(s.ctx, group))
	absent := one.ref
	absent.Name = "absent"
	_, err = s.conn.SnapshotGroup(s.ctx, group, []ceph.ImageRef{one.ref, absent})
	requireKind(t, ceph.NotFound, err)
	_, err = s.conn.SnapshotGroup(s.ctx, group, nil)
	requireKind(t, ceph.Invalid, err)

	held := map[string][]byte{one.ref.Name: one.change(t, 20), two.ref.Name: two.change(t, 20)}
	made, err := s.conn.SnapshotGroup(s.ctx, group, images)
	require.NoError(t, err)
	require.Equal(t, group, made.Ref)
	require.Len(t, made.Members, 2)
	require.True(t, slices.IsSortedFunc(made.Members, func(a, b ceph.SnapshotInfo) int {
		if a.Ref.ImageID < b.Ref.ImageID {
			return -1
		}
		return 1
	}))
	again, err := s.conn.SnapshotGroup(s.ctx, group, images[:1])
	require.NoError(t, err)
	require.Equal(t, made, again, "made once, whatever its members")
	one.change(t, 20)
	two.change(t, 20)
	next := group
	next.Name += "-next"
	_, err = s.conn.SnapshotGroup(s.ctx, next, images)
	require.NoError(t, err, "the images are free for the next one")
	one.close(t)
	two.close(t)

	found, err := s.conn.Group(s.ctx, group)
	require.NoError(t, err)
	require.Equal(t, made, found)
	for _, member := range found.Members {
		require.Equal(t, group.Name, member.Name)
		require.Equal(t, &group, member.Group)
		ref := ceph.ImageRef{PoolID: s.poolID, Name: member.Image}
		s.requireHolds(t, ref, ceph.OpenOptions{Snapshot: member.Ref.SnapID}, held[member.Image])
		info, err := s.conn.Snapshot(s.ctx, member.Ref)
		require.NoError(t, err)
		require.Equal(t, &member, info)
		list, err := s.conn.ListSnapshots(s.ctx, ref)
		require.NoError(t, err)
		require.Len(t, list, 2)
		require.Equal(t, member, list[0])
		requireKind(t, ceph.Invalid, s.conn.RemoveSnapshot(s.ctx, member.Ref))
		requireKind(t, ceph.Busy, s.conn.RemoveImage(s.ctx, ref))
	}
	require.NoError(t, s.conn.RemoveGroup(s.ctx, next))

	// A clone, a deleted image, and the end of the group snapshot.
	member := found.Members[0]
	clone := s.clone(t, &member, "of-group-"+uuid.NewString())
	source := ceph.ImageRef{PoolID: s.poolID, Name: member.Image}
	require.NoError(t, s.conn.HideImage(s.ctx, source))
	hidden := source
	hidden.Name = ceph.HiddenPrefix + member.Ref.ImageID
	found, err = s.conn.Group(s.ctx, group)
	require.NoError(t, err)
	require.Equal(t, hidden.Name, found.Members[0].Image)
	s.requireHolds(t, clone, ceph.OpenOptions{}, held[source.Name])
	require.NoError(t, s.conn.RemoveGroup(s.ctx, group), "while a member has a clone")
	requireKind(t, ceph.NotFound, s.conn.RemoveGroup(s.ctx, group))
	_, err = s.conn.Group(s.ctx, group)
	requireKind(t, ceph.NotFound, err)
	_, err = s.conn.Snapshot(s.ctx, member.Ref)
	requireKind(t, ceph.NotFound, err)
	s.requireHolds(t, clone, ceph.OpenOptions{}, held[source.Name], "the clone lives on")
	require.NoError(t, s.conn.RemoveImage(s.ctx, clone))
	require.NoError(t, s.conn.RemoveImage(s.ctx, hidden), "the last clone took the snapshot with it")
}
