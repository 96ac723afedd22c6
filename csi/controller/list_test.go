package controller

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// kubernetes knows some volumes.
type kubernetes struct {
	ids       []string
	published map[string][]string
}

func (k kubernetes) IDs(context.Context) ([]string, error) { return k.ids, nil }

func (k kubernetes) Published(context.Context) (map[string][]string, error) { return k.published, nil }

func (s *Server) listVolumes(t *testing.T, req *csi.ListVolumesRequest) (ids []string, token string) {
	t.Helper()
	resp, err := s.ListVolumes(t.Context(), req)
	require.NoError(t, err)
	for _, e := range resp.GetEntries() {
		ids = append(ids, e.GetVolume().GetVolumeId())
	}
	return ids, resp.GetNextToken()
}

func TestListVolumes(t *testing.T) {
	s, _, conn := bench(t)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "slow", Size: 1, Application: "rbd"}))
	s.Places = places.Static{{FSID: fsid}, {FSID: fsid, Namespace: "tenant"}}
	var all []string
	for _, pool := range []string{"fast", "slow"} {
		for _, namespace := range []string{"", "tenant"} {
			for n := range 3 {
				all = append(all, s.volume(t, fmt.Sprintf("pvc-%d", n), func(r *csi.CreateVolumeRequest) {
					r.Parameters["pool"], r.Parameters["radosNamespace"] = pool, namespace
				}).GetVolumeId())
			}
		}
	}
	// Neither a deleted volume nor an image of another kind is a volume.
	gone := s.volume(t, "gone")
	s.snap(t, gone, "kept")
	s.delete(t, gone)
	require.NoError(t, conn.CreateImage(t.Context(), ceph.ImageRef{PoolID: 1, Name: "no.volume"}, ceph.ImageSpec{Size: 1 << 20}))

	s.Volumes = kubernetes{published: map[string][]string{all[4]: {"node-1"}}}
	resp, err := s.ListVolumes(t.Context(), &csi.ListVolumesRequest{})
	require.NoError(t, err)
	for i, e := range resp.GetEntries() {
		require.Equal(t, i == 4, slices.Equal([]string{"node-1"}, e.GetStatus().GetPublishedNodeIds()))
	}
	for size := int32(1); size <= 13; size++ {
		var paged []string
		for token := ""; ; {
			page, next := s.listVolumes(t, &csi.ListVolumesRequest{MaxEntries: size, StartingToken: token})
			require.LessOrEqual(t, len(page), int(size))
			paged = append(paged, page...)
			if token = next; token == "" {
				break
			}
		}
		require.Equal(t, all, paged, "pages of %d", size)
	}
	// A volume that goes between pages takes no other with it.
	_, token := s.listVolumes(t, &csi.ListVolumesRequest{MaxEntries: 5})
	s.delete(t, &csi.Volume{VolumeId: all[4]})
	rest, _ := s.listVolumes(t, &csi.ListVolumesRequest{StartingToken: token})
	require.Equal(t, all[5:], rest)

	_, err = s.ListVolumes(t.Context(), &csi.ListVolumesRequest{StartingToken: "x"})
	is(t, err, codes.Aborted, "starting_token:")
	_, err = s.ListVolumes(t.Context(), &csi.ListVolumesRequest{MaxEntries: -1})
	is(t, err, codes.InvalidArgument, "max_entries:")
}

func TestGetVolume(t *testing.T) {
	s, _, _ := bench(t)
	id := s.volume(t, "pvc-1").GetVolumeId()
	s.Volumes = kubernetes{published: map[string][]string{id: {"node-1"}}}
	got, err := s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id})
	require.NoError(t, err)
	require.Equal(t, int64(1<<30), got.GetVolume().GetCapacityBytes())
	require.Equal(t, []string{"node-1"}, got.GetStatus().GetPublishedNodeIds())
	_, err = s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{VolumeId: id + "0"})
	is(t, err, codes.NotFound, "pvc-10")
	_, err = s.ControllerGetVolume(t.Context(), &csi.ControllerGetVolumeRequest{})
	is(t, err, codes.InvalidArgument, "volume_id:")
}

func TestHealth(t *testing.T) {
	s, cluster, conn := bench(t)
	well, lost := s.volume(t, "pvc-1"), s.volume(t, "pvc-2")
	unknown := well.GetVolumeId() + "0"
	require.NoError(t, conn.RemoveImage(t.Context(), imageRef(t, lost)))
	s.Volumes = kubernetes{ids: []string{well.GetVolumeId(), lost.GetVolumeId(), "0001-rook"}}
	health := func(id string) (*csi.VolumeHealth, error) {
		resp, err := s.ControllerGetVolumeHealth(t.Context(), &csi.ControllerGetVolumeHealthRequest{VolumeId: id})
		return resp.GetVolumeHealth(), err
	}
	got, err := health(well.GetVolumeId())
	require.NoError(t, err)
	require.Empty(t, got.GetHealthStatuses())
	got, err = health(lost.GetVolumeId())
	require.NoError(t, err)
	require.Equal(t, csi.VolumeHealthErrorType_DATA_LOSS, got.GetHealthStatuses()[0].GetStatus())
	require.Equal(t, "ImageMissing", got.GetHealthStatuses()[0].GetReason())
	_, err = health(unknown)
	is(t, err, codes.NotFound, "pvc-10")

	list := func(req *csi.ControllerListVolumeHealthRequest) (ids []string, token string) {
		resp, err := s.ControllerListVolumeHealth(t.Context(), req)
		require.NoError(t, err)
		for _, e := range resp.GetEntries() {
			ids = append(ids, e.GetVolumeId())
		}
		return ids, resp.GetNextToken()
	}
	ids, token := list(&csi.ControllerListVolumeHealthRequest{})
	require.Equal(t, []string{lost.GetVolumeId()}, ids)
	require.Empty(t, token)

	cluster.SetCapacity(1, 0)
	s.usages = usages{} // it is known from before otherwise
	ids, token = list(&csi.ControllerListVolumeHealthRequest{MaxEntries: 1})
	require.Equal(t, []string{well.GetVolumeId()}, ids)
	ids, token = list(&csi.ControllerListVolumeHealthRequest{MaxEntries: 1, StartingToken: token})
	require.Equal(t, []string{lost.GetVolumeId()}, ids)
	require.Empty(t, token)
	got, err = health(well.GetVolumeId())
	require.NoError(t, err)
	require.Equal(t, "PoolFull", got.GetHealthStatuses()[0].GetReason())
	_, err = s.ControllerListVolumeHealth(t.Context(), &csi.ControllerListVolumeHealthRequest{StartingToken: "x"})
	is(t, err, codes.Aborted, "starting_token:")
}
