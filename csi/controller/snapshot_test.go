package controller

import (
	"fmt"
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/volumeid"
)

const kubernetesName = "snapshot-0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d"

// A name that Kubernetes makes is unique, so that nothing is looked for.
func TestASnapshotCostsOneCall(t *testing.T) {
	s, cluster, _ := bench(t)
	volume := s.volume(t, "pvc-1")
	before := cluster.Calls()
	snapshot := s.snap(t, volume, kubernetesName)
	calls := cluster.Calls()
	for op, n := range before {
		if calls[op] -= n; calls[op] == 0 {
			delete(calls, op)
		}
	}
	require.Equal(t, map[string]int{"CreateSnapshot": 1}, calls)
	require.True(t, snapshot.GetReadyToUse())
	require.Equal(t, int64(1<<30), snapshot.GetSizeBytes())
	require.Equal(t, volume.GetVolumeId(), snapshot.GetSourceVolumeId())
	require.NoError(t, snapshot.GetCreationTime().CheckValid())
	require.Equal(t, snapshot.GetSnapshotId(), s.snap(t, volume, kubernetesName).GetSnapshotId())
}

func TestASnapshotNameIsOfOneVolume(t *testing.T) {
	s, _, _ := bench(t)
	one, two := s.volume(t, "pvc-1"), s.volume(t, "pvc-2")
	s.snap(t, one, "Mine")
	_, err := s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "Mine", SourceVolumeId: two.GetVolumeId()})
	is(t, err, codes.AlreadyExists, "name:")
	s.delete(t, one)
	_, err = s.CreateSnapshot(t.Context(), &csi.CreateSnapshotRequest{Name: "Mine", SourceVolumeId: two.GetVolumeId()})
	is(t, err, codes.AlreadyExists, "name:")
}

func TestCreateSnapshotRefuses(t *testing.T) {
	s, _, _ := bench(t)
	id := s.volume(t, "pvc-1").GetVolumeId()
	for name, c := range map[string]struct {
		req  *csi.CreateSnapshotRequest
		code codes.Code
		says string
	}{
		"no name":       {&csi.CreateSnapshotRequest{SourceVolumeId: id}, codes.InvalidArgument, "name:"},
		"long name":     {&csi.CreateSnapshotRequest{Name: strings.Repeat("x", 129), SourceVolumeId: id}, codes.InvalidArgument, "name:"},
		"no volume":     {&csi.CreateSnapshotRequest{Name: "a"}, codes.InvalidArgument, "source_volume_id:"},
		"foreign":       {&csi.CreateSnapshotRequest{Name: "a", SourceVolumeId: "x"}, codes.NotFound, "source_volume_id:"},
		"absent":        {&csi.CreateSnapshotRequest{Name: kubernetesName, SourceVolumeId: id + "0"}, codes.NotFound, "pvc-10"},
		"parameter":     {&csi.CreateSnapshotRequest{Name: "a", SourceVolumeId: id, Parameters: map[string]string{"size": "1"}}, codes.InvalidArgument, "parameters.size:"},
		"other cluster": {&csi.CreateSnapshotRequest{Name: "a", SourceVolumeId: id, Parameters: map[string]string{"clusterID": "x"}}, codes.InvalidArgument, "parameters.clusterID:"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.CreateSnapshot(t.Context(), c.req)
			is(t, err, c.code, c.says)
		})
	}
}

func TestSnapshotsOutliveTheirVolume(t *testing.T) {
	s, _, conn := bench(t)
	volume := s.volume(t, "pvc-1")
	write(t, conn, volume, "data", 0)
	snapshot := s.snap(t, volume, kubernetesName)
	s.delete(t, volume)
	got, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: snapshot.GetSnapshotId()})
	require.NoError(t, err)
	require.Equal(t, volume.GetVolumeId(), got.GetSnapshot().GetSourceVolumeId(), "the volume that it was of")
	restored := s.volume(t, "pvc-2", fromSnapshot(snapshot.GetSnapshotId()))
	require.Equal(t, "data", read(t, conn, restored, 4, 0))
	// The name is free again, and a new volume of that name is another.
	require.NotEqual(t, "data", read(t, conn, s.volume(t, "pvc-1"), 4, 0))
}

func TestDeleteSnapshot(t *testing.T) {
	s, _, _ := bench(t)
	id := s.snap(t, s.volume(t, "pvc-1"), "a").GetSnapshotId()
	for range 2 {
		_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: id})
		require.NoError(t, err)
	}
	_, err := s.GetSnapshot(t.Context(), &csi.GetSnapshotRequest{SnapshotId: id})
	is(t, err, codes.NotFound, "snapshot")
	_, err = s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: "0001-rook"})
	require.NoError(t, err)
	_, err = s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{})
	is(t, err, codes.InvalidArgument, "snapshot_id:")
	_, err = s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: strings.Replace(id, "6f0c1d2e", "00000000", 1)})
	is(t, err, codes.FailedPrecondition, "cannot be deleted")
}

func (s *Server) listSnapshots(t *testing.T, req *csi.ListSnapshotsRequest) (ids []string, token string) {
	t.Helper()
	resp, err := s.ListSnapshots(t.Context(), req)
	require.NoError(t, err)
	for _, e := range resp.GetEntries() {
		ids = append(ids, e.GetSnapshot().GetSnapshotId())
	}
	return ids, resp.GetNextToken()
}

func TestListSnapshots(t *testing.T) {
	s, _, conn := bench(t)
	var all []string
	var volumes []*csi.Volume
	for v := range 3 {
		volume := s.volume(t, fmt.Sprintf("pvc-%d", v))
		volumes = append(volumes, volume)
		for n := range 3 {
			all = append(all, s.snap(t, volume, fmt.Sprintf("s-%d-%d", v, n)).GetSnapshotId())
		}
	}
	_, err := conn.CreateSnapshot(t.Context(), imageRef(t, volumes[0]), imagemeta.TemporaryPrefix+"pvc-9")
	require.NoError(t, err)

	got, token := s.listSnapshots(t, &csi.ListSnapshotsRequest{})
	require.Equal(t, all, got)
	require.Empty(t, token)
	for size := int32(1); size <= 10; size++ {
		var paged []string
		for token := ""; ; {
			page, next := s.listSnapshots(t, &csi.ListSnapshotsRequest{MaxEntries: size, StartingToken: token})
			require.LessOrEqual(t, len(page), int(size))
			paged = append(paged, page...)
			if token = next; token == "" {
				break
			}
		}
		require.Equal(t, all, paged)
	}
	got, _ = s.listSnapshots(t, &csi.ListSnapshotsRequest{SourceVolumeId: volumes[1].GetVolumeId()})
	require.Equal(t, all[3:6], got)
	got, _ = s.listSnapshots(t, &csi.ListSnapshotsRequest{SnapshotId: all[4]})
	require.Equal(t, all[4:5], got)
	for _, none := range []*csi.ListSnapshotsRequest{
		{SnapshotId: "x"}, {SourceVolumeId: "x"}, {SnapshotId: all[4] + "0"}, {SourceVolumeId: volumes[0].GetVolumeId() + "0"},
		{SnapshotId: all[0], SourceVolumeId: volumes[1].GetVolumeId()}, {SnapshotId: strings.Replace(all[0], "6f0c1d2e", "00000000", 1)},
	} {
		got, _ = s.listSnapshots(t, none)
		require.Empty(t, got)
	}
	// The snapshots of a deleted volume are still listed.
	s.delete(t, volumes[2])
	got, _ = s.listSnapshots(t, &csi.ListSnapshotsRequest{})
	require.ElementsMatch(t, all, got)
}

var badTokens = []string{"x", "/", "////", fsid + "/1//pvc-1/", fsid + "/01//pvc-1/1", fsid + "/1/../pvc-1/1", fsid + "/1///1", fsid + "/0//a/1", fsid + "/1//a/0", fsid + "/-1//a/1", fsid + "/1//a/+1"}

func TestListSnapshotsRefuses(t *testing.T) {
	s, _, _ := bench(t)
	for _, token := range badTokens {
		_, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{StartingToken: token})
		is(t, err, codes.Aborted, "starting_token:")
	}
	_, err := s.ListSnapshots(t.Context(), &csi.ListSnapshotsRequest{MaxEntries: -1})
	is(t, err, codes.InvalidArgument, "max_entries:")
}

func FuzzSnapshotToken(f *testing.F) {
	for _, token := range append(badTokens, fsid+"/1//pvc-1/4", fsid+"/12/t/cairn-deleted.0a/18446744073709551615") {
		f.Add(token)
	}
	f.Fuzz(func(t *testing.T, token string) {
		got, err := parseSnapshotToken(token)
		if err == nil && got != nil && (got.String() != token || volumeid.CheckFSID(got.root.FSID) != nil) {
			t.Fatalf("%q is read as %q", token, got)
		}
	})
}
