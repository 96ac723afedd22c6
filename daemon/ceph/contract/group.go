package contract

import (
	"fmt"
	"slices"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

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

// groupsAtOnce removes group snapshots of the same images at once, looked at
// meanwhile: that one snapshot goes must not make another, or an image, seem gone.
func (s *suite) groupsAtOnce(t *testing.T) {
	one, two := s.write(t, 8*mib), s.write(t, 8*mib)
	images := []ceph.ImageRef{one.ref, two.ref}
	one.close(t)
	two.close(t)
	name := "group-" + uuid.NewString()
	ref := func(i int) ceph.GroupRef {
		return ceph.GroupRef{PoolID: s.poolID, Name: fmt.Sprintf("%s-%d", name, i)}
	}
	const count = 30
	for i := range count {
		_, err := s.conn.SnapshotGroup(s.ctx, ref(i), images)
		require.NoError(t, err)
	}
	var removals, looks errgroup.Group
	ended := make(chan struct{})
	for i := 1; i < count; i++ {
		removals.Go(func() error { return s.lookAndRemove(ref(i)) })
	}
	for _, image := range images {
		looks.Go(func() error { return s.lookUntil(ended, ref(0), image) })
	}
	err := removals.Wait()
	close(ended)
	require.NoError(t, err)
	require.NoError(t, looks.Wait())
	for _, image := range images {
		list, err := s.conn.ListSnapshots(s.ctx, image)
		require.NoError(t, err)
		require.Len(t, list, 1, "of the group that stays: %+v", list)
	}
	require.NoError(t, s.conn.RemoveGroup(s.ctx, ref(0)))
	for _, image := range images {
		require.NoError(t, s.conn.RemoveImage(s.ctx, image))
	}
}

// lookUntil looks at a group snapshot and at the snapshots of an image until the
// channel is closed: both are always there.
func (s *suite) lookUntil(ended <-chan struct{}, group ceph.GroupRef, image ceph.ImageRef) error {
	for {
		if _, err := s.conn.Group(s.ctx, group); err != nil {
			return fmt.Errorf("the group that stays: %w", err)
		}
		if _, err := s.conn.ListSnapshots(s.ctx, image); err != nil {
			return err
		}
		select {
		case <-ended:
			return nil
		default:
		}
	}
}

// lookAndRemove removes a group snapshot that is there, and repeats that as long as
// it finds others at work.
func (s *suite) lookAndRemove(ref ceph.GroupRef) error {
	if _, err := s.conn.Group(s.ctx, ref); err != nil {
		return fmt.Errorf("a group that nobody removed: %w", err)
	}
	for {
		err := s.conn.RemoveGroup(s.ctx, ref)
		if !ceph.Is(err, ceph.Busy) {
			return err
		}
	}
}
