package rados_test

import (
	"encoding/binary"
	"fmt"
	"testing"

	librados "github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// text encodes a string as Ceph does.
func text(s string) []byte {
	return append(binary.LittleEndian.AppendUint32(nil, uint32(len(s))), s...)
}

// callClass calls a method of the OSDs' class rbd.
func callClass(t *testing.T, ioctx *librados.IOContext, object, method string, args []byte) {
	op := librados.CreateWriteOp()
	defer op.Release()
	op.Exec("rbd", method, args)
	require.NoError(t, op.Operate(ioctx, object, librados.OperationNoFlag))
}

// TestGroupRemovalCutOff repeats the removal of a group snapshot that left one
// member in its image's trash, or removed it with its image.
func TestGroupRemovalCutOff(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	one, two := ceph.ImageRef{PoolID: pool, Name: "one"}, ceph.ImageRef{PoolID: pool, Name: "two"}
	clone := ceph.ImageRef{PoolID: pool, Name: "clone"}
	for name, leave := range map[string]func(*testing.T, ceph.SnapshotInfo){
		"in the trash": func(t *testing.T, member ceph.SnapshotInfo) {
			callClass(t, ioctx, "rbd_header."+member.Ref.ImageID, "snapshot_trash_add", binary.LittleEndian.AppendUint64(nil, member.Ref.SnapID))
		},
		"in the trash with a clone": func(t *testing.T, member ceph.SnapshotInfo) {
			require.NoError(t, conn.CloneImage(ctx, member.Ref, clone, ceph.ImageSpec{Size: mib}))
			callClass(t, ioctx, "rbd_header."+member.Ref.ImageID, "snapshot_trash_add", binary.LittleEndian.AppendUint64(nil, member.Ref.SnapID))
		},
		"gone with its image": func(t *testing.T, member ceph.SnapshotInfo) {
			image, err := rbd.OpenImageById(ioctx, member.Ref.ImageID, rbd.NoSnapshot)
			require.NoError(t, err)
			require.NoError(t, image.RemoveSnapByID(member.Ref.SnapID))
			require.NoError(t, image.Close())
			require.NoError(t, conn.RemoveImage(ctx, ceph.ImageRef{PoolID: pool, Name: member.Image}))
		},
		"without the header": func(t *testing.T, member ceph.SnapshotInfo) {
			require.NoError(t, rbd.GroupSnapRemove(ioctx, member.Group.Name, member.Group.Name))
			groups, err := ioctx.GetAllOmapValues("rbd_group_directory", "", "name_", 10)
			require.NoError(t, err)
			require.NoError(t, ioctx.Delete("rbd_group_header."+string(groups["name_"+member.Group.Name][4:])))
		},
	} {
		t.Run(name, func(t *testing.T) {
			for _, ref := range []ceph.ImageRef{one, two} {
				require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}))
			}
			group := ceph.GroupRef{PoolID: pool, Name: "group"}
			info, err := conn.SnapshotGroup(ctx, group, []ceph.ImageRef{one, two})
			require.NoError(t, err)
			leave(t, info.Members[0])
			require.NoError(t, conn.RemoveGroup(ctx, group))
			require.Equal(t, ceph.NotFound, ceph.KindOf(conn.RemoveGroup(ctx, group)))
			for _, ref := range []ceph.ImageRef{clone, one, two} {
				err := conn.RemoveImage(ctx, ref)
				if err != nil {
					require.Equal(t, ceph.NotFound, ceph.KindOf(err), "%v", err)
					continue
				}
			}
			requireNothing(t, ioctx)
		})
	}
}

// TestGroupRemovalLeavesNoOperations looks at a member after a removal that was
// cut off: nothing says any more that it had a snapshot.
func TestGroupRemovalLeavesNoOperations(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	ref, group := ceph.ImageRef{PoolID: pool, Name: "one"}, ceph.GroupRef{PoolID: pool, Name: "group"}
	require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}))
	before, err := conn.ImageInfo(ctx, ref)
	require.NoError(t, err)
	made, err := conn.SnapshotGroup(ctx, group, []ceph.ImageRef{ref})
	require.NoError(t, err)
	callClass(t, ioctx, "rbd_header."+before.ID, "snapshot_trash_add", binary.LittleEndian.AppendUint64(nil, made.Members[0].Ref.SnapID))
	require.NoError(t, conn.RemoveGroup(ctx, group))
	after, err := conn.ImageInfo(ctx, ref)
	require.NoError(t, err)
	require.ElementsMatch(t, before.Features, after.Features)
}

// TestRemovalCutOff lists and removes images that librbd began to remove, under
// hidden names and under others.
func TestRemovalCutOff(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	for _, hidden := range []bool{true, false} {
		ref := ceph.ImageRef{PoolID: pool, Name: "one"}
		require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: mib}))
		info, err := conn.ImageInfo(ctx, ref)
		require.NoError(t, err)
		name := ref.Name
		if hidden {
			require.NoError(t, conn.HideImage(ctx, ref))
			name = ceph.HiddenPrefix + info.ID
		}
		const removing, begun = 3, 2
		spec := append([]byte{removing}, text(name)...)
		spec = append(append(spec, make([]byte, 16)...), begun)
		spec = append(binary.LittleEndian.AppendUint32([]byte{2, 1}, uint32(len(spec))), spec...)
		require.NoError(t, ioctx.SetOmap("rbd_trash", map[string][]byte{"id_" + info.ID: spec}))
		require.NoError(t, ioctx.Delete("rbd_id."+name))
		callClass(t, ioctx, "rbd_directory", "dir_remove_image", append(text(name), text(info.ID)...))

		left := ceph.ImageRef{PoolID: pool, Name: ceph.HiddenPrefix + info.ID}
		names, err := conn.ListImages(ctx, pool, "", "", 10)
		require.NoError(t, err)
		require.Equal(t, []string{left.Name}, names)
		require.NoError(t, conn.RemoveImage(ctx, left))
		requireNothing(t, ioctx)
	}
}

// requireNothing checks that a pool holds nothing but what a pool for images does.
func requireNothing(t *testing.T, ioctx *librados.IOContext) {
	iter, err := ioctx.Iter()
	require.NoError(t, err)
	defer iter.Close()
	for iter.Next() {
		switch name := iter.Value(); name {
		case "rbd_info":
		case "rbd_directory", "rbd_children", "rbd_trash", "rbd_group_directory":
			values, err := ioctx.GetAllOmapValues(name, "", "", 100)
			require.NoError(t, err)
			require.Empty(t, values, name)
		default:
			t.Errorf("object %s is left", name)
		}
	}
	require.NoError(t, iter.Err())
}

// TestFlattenCutOff opens a clone whose flatten was cut off after it had removed
// the parent's snapshot, and one that lost its parent in another way.
func TestFlattenCutOff(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	parent, clone := ceph.ImageRef{PoolID: pool, Name: "parent"}, ceph.ImageRef{PoolID: pool, Name: "clone"}
	for _, flattened := range []bool{true, false} {
		require.NoError(t, conn.CreateImage(ctx, parent, ceph.ImageSpec{Size: mib}))
		snap, err := conn.CreateSnapshot(ctx, parent, "one")
		require.NoError(t, err)
		require.NoError(t, conn.CloneImage(ctx, snap.Ref, clone, ceph.ImageSpec{Size: mib}))
		require.NoError(t, conn.RemoveSnapshot(ctx, snap.Ref), "to the trash")
		info, err := conn.ImageInfo(ctx, clone)
		require.NoError(t, err)
		require.NotNil(t, info.Parent)

		if flattened {
			key := append(text("cairn.flatten"), text(info.ID)...)
			callClass(t, ioctx, "rbd_header."+info.ID, "metadata_set", append(binary.LittleEndian.AppendUint32(nil, 1), key...))
		}
		child := append(binary.LittleEndian.AppendUint64(nil, uint64(pool)), append(text(info.ID), text("")...)...)
		child = append(binary.LittleEndian.AppendUint32([]byte{2, 1}, uint32(len(child))), child...)
		callClass(t, ioctx, "rbd_header."+snap.Ref.ImageID, "child_detach", append(binary.LittleEndian.AppendUint64(nil, snap.Ref.SnapID), child...))
		require.NoError(t, conn.RemoveImage(ctx, parent), "with its snapshot")

		_, err = rbd.OpenImage(ioctx, clone.Name, rbd.NoSnapshot)
		require.ErrorIs(t, err, rbd.ErrNotFound)
		if !flattened {
			_, err = conn.OpenImage(ctx, clone, ceph.OpenOptions{})
			require.Equal(t, ceph.NotFound, ceph.KindOf(err), "its data may be lost")
			require.NoError(t, conn.RemoveImage(ctx, clone))
			continue
		}
		image, err := conn.OpenImage(ctx, clone, ceph.OpenOptions{})
		require.NoError(t, err)
		require.NoError(t, image.Close())
		info, err = conn.ImageInfo(ctx, clone)
		require.NoError(t, err)
		require.Nil(t, info.Parent)
		require.NotContains(t, info.Features, "operations")
		require.NoError(t, conn.FlattenImage(ctx, clone, nil))
		require.NoError(t, conn.RemoveImage(ctx, clone))
	}
	requireNothing(t, ioctx)
}

// TestSnapshotCutOff compares snapshots one of which has no object map: its making
// was cut off.
func TestSnapshotCutOff(t *testing.T) {
	cluster := start(t)
	conn, pool := connect(t, cluster)
	ioctx, ctx := raw(t, cluster), t.Context()
	ref := ceph.ImageRef{PoolID: pool, Name: "one"}
	require.NoError(t, conn.CreateImage(ctx, ref, ceph.ImageSpec{Size: 16 * mib}))
	write := func(at int64) {
		image, err := conn.OpenImage(ctx, ref, ceph.OpenOptions{Exclusive: true})
		require.NoError(t, err)
		_, err = image.WriteAt([]byte("data"), at)
		require.NoError(t, err)
		require.NoError(t, image.Close())
	}
	var snaps []*ceph.SnapshotInfo
	for i, name := range []string{"a", "b", "c"} {
		write(int64(i) * 4 * mib)
		snap, err := conn.CreateSnapshot(ctx, ref, name)
		require.NoError(t, err)
		snaps = append(snaps, snap)
	}
	require.NoError(t, ioctx.Delete(fmt.Sprintf("rbd_object_map.%s.%016x", snaps[1].Ref.ImageID, snaps[1].Ref.SnapID)))
	for i := 1; i < len(snaps); i++ {
		changed := false
		require.NoError(t, conn.Diff(ctx, &snaps[i-1].Ref, snaps[i].Ref, 0, func(e ceph.Extent) error {
			changed = changed || e.Offset <= int64(i)*4*mib && e.Offset+e.Length > int64(i)*4*mib
			return nil
		}))
		require.True(t, changed, "what was written before %s", snaps[i].Name)
	}
	for _, snap := range snaps {
		require.NoError(t, conn.RemoveSnapshot(ctx, snap.Ref))
	}
	require.NoError(t, conn.RemoveImage(ctx, ref))
}
