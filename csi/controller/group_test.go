package controller

import (
	"slices"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
)

func (s *Server) group(t *testing.T, name string, volumes ...*csi.Volume) *csi.VolumeGroupSnapshot {
	t.Helper()
	req := &csi.CreateVolumeGroupSnapshotRequest{Name: name}
	for _, v := range volumes {
		req.SourceVolumeIds = append(req.SourceVolumeIds, v.GetVolumeId())
	}
	resp, err := s.CreateVolumeGroupSnapshot(t.Context(), req)
	require.NoError(t, err)
	return resp.GetGroupSnapshot()
}

func TestGroupSnapshots(t *testing.T) {
	s, _, conn := bench(t)
	data, wal := s.volume(t, "pvc-1"), s.volume(t, "pvc-2")
	write(t, conn, data, "data", 0)
	write(t, conn, wal, "wal!", 0)
	group := s.group(t, "nightly", wal, data)
	require.True(t, group.GetReadyToUse())
	require.Len(t, group.GetSnapshots(), 2)
	require.Equal(t, group.GetGroupSnapshotId(), s.group(t, "nightly", data, wal, data).GetGroupSnapshotId())

	got, err := s.GetVolumeGroupSnapshot(t.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: group.GetGroupSnapshotId()})
	require.NoError(t, err)
	require.Equal(t, group.String(), got.GetGroupSnapshot().String())

	// Each member is a snapshot like any other, save that it goes with the group.
	var ids []string
	for _, member := range group.GetSnapshots() {
		ids = append(ids, member.GetSnapshotId())
		require.Equal(t, group.GetGroupSnapshotId(), member.GetGroupSnapshotId())
		_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: member.GetSnapshotId()})
		is(t, err, codes.InvalidArgument, "group snapshot")
	}
	restored := s.volume(t, "pvc-3", fromSnapshot(ids[slices.IndexFunc(group.GetSnapshots(), func(m *csi.Snapshot) bool { return m.GetSourceVolumeId() == wal.GetVolumeId() })]))
	require.Equal(t, "wal!", read(t, conn, restored, 4, 0))
	listed, _ := s.listSnapshots(t, &csi.ListSnapshotsRequest{})
	require.ElementsMatch(t, ids, listed)

	for range 2 {
		_, err := s.DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: group.GetGroupSnapshotId(), SnapshotIds: ids})
		require.NoError(t, err)
	}
	listed, _ = s.listSnapshots(t, &csi.ListSnapshotsRequest{})
	require.Empty(t, listed)
	require.Equal(t, "wal!", read(t, conn, restored, 4, 0))
	_, err = s.GetVolumeGroupSnapshot(t.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: group.GetGroupSnapshotId()})
	is(t, err, codes.NotFound, "group snapshot")
}

func TestGroupSnapshotsRefuse(t *testing.T) {
	s, _, _ := bench(t)
	one, two := s.volume(t, "pvc-1"), s.volume(t, "pvc-2")
	group := s.group(t, "g", one, two)
	other := s.snap(t, one, "other").GetSnapshotId()
	create := func(name string, ids ...string) error {
		_, err := s.CreateVolumeGroupSnapshot(t.Context(), &csi.CreateVolumeGroupSnapshotRequest{Name: name, SourceVolumeIds: ids})
		return err
	}
	get := func(id string, snapshots ...string) error {
		_, err := s.GetVolumeGroupSnapshot(t.Context(), &csi.GetVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: snapshots})
		return err
	}
	remove := func(id string, snapshots ...string) error {
		_, err := s.DeleteVolumeGroupSnapshot(t.Context(), &csi.DeleteVolumeGroupSnapshotRequest{GroupSnapshotId: id, SnapshotIds: snapshots})
		return err
	}
	elsewhere := strings.Replace(one.GetVolumeId(), ".1..", ".1.tenant.", 1)
	is(t, create("", one.GetVolumeId()), codes.InvalidArgument, "name:")
	is(t, create("h"), codes.InvalidArgument, "source_volume_ids:")
	is(t, create("h", "x"), codes.NotFound, "source_volume_ids:")
	is(t, create("h", one.GetVolumeId(), one.GetVolumeId()+"0"), codes.NotFound, "no such image")
	is(t, create("h", one.GetVolumeId(), elsewhere), codes.FailedPrecondition, "cannot be snapshotted together")
	is(t, create("g", one.GetVolumeId()), codes.AlreadyExists, "source_volume_ids:")
	is(t, get(""), codes.InvalidArgument, "group_snapshot_id:")
	is(t, get("x"), codes.NotFound, "group_snapshot_id:")
	is(t, get(group.GetGroupSnapshotId(), other), codes.InvalidArgument, "snapshot_ids:")
	is(t, remove(""), codes.InvalidArgument, "group_snapshot_id:")
	is(t, remove(group.GetGroupSnapshotId(), other), codes.InvalidArgument, "snapshot_ids:")
	is(t, remove(strings.Replace(group.GetGroupSnapshotId(), "6f0c1d2e", "00000000", 1)), codes.FailedPrecondition, "cannot be deleted")
	require.NoError(t, remove("x"))
	// A member's volume may be deleted meanwhile: the group is the same.
	s.delete(t, one)
	require.Equal(t, group.GetGroupSnapshotId(), s.group(t, "g", one, two).GetGroupSnapshotId())
}
