package controller

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The class names the pool that the user knows: where the data is, its pool says.
func TestVolumesOfAnErasureCodedPoolHaveTheirDataThere(t *testing.T) {
	s, cluster, conn := bench(t)
	data := ceph.PoolSpec{Name: "archive.data", Size: 3, DataChunks: 2, CodingChunks: 1, Application: "rbd", QuotaBytes: 5 << 30}
	require.NoError(t, conn.EnsurePool(t.Context(), data))
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "archive", Size: 3, DataPool: data.Name, Application: "rbd"}))
	archive := func(r *csi.CreateVolumeRequest) { r.Parameters["pool"] = "archive" }
	dataPool := func(volume *csi.Volume) bool {
		info, err := conn.ImageInfo(t.Context(), imageRef(t, volume))
		require.NoError(t, err)
		for _, feature := range info.Features {
			if feature == "data-pool" {
				return true
			}
		}
		return false
	}
	volume := s.volume(t, "pvc-1", archive)
	require.True(t, dataPool(volume))
	require.Equal(t, "archive", volume.GetVolumeContext()[PoolContext])
	require.Equal(t, volume.GetVolumeId(), s.volume(t, "pvc-1", archive).GetVolumeId(), "a repeat finds it")
	snapshot := s.snap(t, volume, "snapshot-1")
	require.True(t, dataPool(s.volume(t, "pvc-2", archive, fromSnapshot(snapshot.GetSnapshotId()))))
	require.True(t, dataPool(s.volume(t, "pvc-3", archive, fromVolume(volume.GetVolumeId()))))
	require.False(t, dataPool(s.volume(t, "pvc-4", fromSnapshot(snapshot.GetSnapshotId()))), "a clone's data is where its own pool's is")

	_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) {
		r.Name = "pvc-secret"
		archive(r)
		r.Parameters["encrypted"] = "true"
	}))
	is(t, err, codes.InvalidArgument, "parameters.encrypted: pool archive is erasure-coded")
	_, err = s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-5"; archive(r); ofSize(6 << 30)(r) }))
	is(t, err, codes.ResourceExhausted, "that the quota of pool archive leaves")
	id, err := conn.PoolID(t.Context(), data.Name)
	require.NoError(t, err)
	cluster.SetCapacity(id, 3<<30)
	s.usages = usages{}
	capacity, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: map[string]string{"clusterID": fsid, "pool": "archive"}})
	require.NoError(t, err)
	require.Equal(t, int64(3<<30), capacity.GetAvailableCapacity())

	require.NoError(t, conn.RemovePool(t.Context(), data.Name))
	s.usages = usages{}
	_, err = s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-6"; archive(r) }))
	require.ErrorContains(t, err, "archive.data", "never elsewhere")
}
