package controller

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestASnapshotIsRestored(t *testing.T) {
	s, _, conn := bench(t)
	volume := s.volume(t, "pvc-1")
	write(t, conn, volume, "before", 4096)
	snapshot := s.snap(t, volume, "snap")
	write(t, conn, volume, "after!", 4096)
	for range 2 {
		restored := s.volume(t, "pvc-2", fromSnapshot(snapshot.GetSnapshotId()), ofSize(2<<30))
		require.Equal(t, int64(2<<30), restored.GetCapacityBytes())
		require.Equal(t, snapshot.GetSnapshotId(), restored.GetContentSource().GetSnapshot().GetSnapshotId())
		require.Equal(t, "before", read(t, conn, restored, 6, 4096))
	}
	info, err := conn.ImageInfo(t.Context(), imageRef(t, volume))
	require.NoError(t, err)
	require.Empty(t, info.Metadata[imagemeta.Source])
	restored, err := conn.ImageInfo(t.Context(), ceph.ImageRef{PoolID: 1, Name: "pvc-2"})
	require.NoError(t, err)
	require.Equal(t, "1", restored.Metadata[imagemeta.Depth])
}

func TestAVolumeIsClonedAndLeavesNoSnapshot(t *testing.T) {
	s, _, conn := bench(t)
	volume := s.volume(t, "pvc-1")
	write(t, conn, volume, "data", 0)
	for range 2 {
		clone := s.volume(t, "pvc-2", fromVolume(volume.GetVolumeId()))
		require.Equal(t, "data", read(t, conn, clone, 4, 0))
		require.Equal(t, volume.GetVolumeId(), clone.GetContentSource().GetVolume().GetVolumeId())
		left, err := conn.ListSnapshots(t.Context(), imageRef(t, volume))
		require.NoError(t, err)
		require.Empty(t, left)
	}
}

// Sources outlive what was made from them, and the other way round.
func TestASourceThatIsGone(t *testing.T) {
	s, _, _ := bench(t)
	volume := s.volume(t, "pvc-1")
	snapshot := s.snap(t, volume, "snap")
	restored := s.volume(t, "pvc-2", fromSnapshot(snapshot.GetSnapshotId()))
	clone := s.volume(t, "pvc-3", fromVolume(volume.GetVolumeId()))
	s.delete(t, volume)
	_, err := s.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: snapshot.GetSnapshotId()})
	require.NoError(t, err)
	// A repeat of a create finds its volume all the same.
	require.Equal(t, restored.GetVolumeId(), s.volume(t, "pvc-2", fromSnapshot(snapshot.GetSnapshotId())).GetVolumeId())
	require.Equal(t, clone.GetVolumeId(), s.volume(t, "pvc-3", fromVolume(volume.GetVolumeId())).GetVolumeId())
	for _, from := range []func(*csi.CreateVolumeRequest){fromSnapshot(snapshot.GetSnapshotId()), fromVolume(volume.GetVolumeId())} {
		_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-4"; from(r) }))
		is(t, err, codes.NotFound, "volume_content_source.")
	}
}

func TestASourceRefuses(t *testing.T) {
	s, _, _ := bench(t)
	volume := s.volume(t, "pvc-1")
	snapshot := s.snap(t, volume, "snap").GetSnapshotId()
	elsewhere := func(id string) string { return id[:3] + "00000000" + id[11:] }
	for name, c := range map[string]struct {
		change func(*csi.CreateVolumeRequest)
		code   codes.Code
		says   string
	}{
		"smaller": {func(r *csi.CreateVolumeRequest) { fromSnapshot(snapshot)(r); ofSize(1 << 20)(r) }, codes.OutOfRange, "not smaller than its source"},
		"limit below": {func(r *csi.CreateVolumeRequest) {
			fromSnapshot(snapshot)(r)
			r.CapacityRange = &csi.CapacityRange{LimitBytes: 1 << 20}
		}, codes.OutOfRange, "capacity_range"},
		"volume smaller":     {func(r *csi.CreateVolumeRequest) { fromVolume(volume.GetVolumeId())(r); ofSize(1 << 20)(r) }, codes.OutOfRange, "not smaller"},
		"no ID":              {fromSnapshot(""), codes.InvalidArgument, "snapshot_id: is empty"},
		"no volume":          {fromVolume(""), codes.InvalidArgument, "volume_id: is empty"},
		"foreign snapshot":   {fromSnapshot("0001-rook"), codes.NotFound, "snapshot_id:"},
		"volume as snapshot": {fromSnapshot(volume.GetVolumeId()), codes.NotFound, "snapshot_id:"},
		"snapshot as volume": {fromVolume(snapshot), codes.NotFound, "volume_id:"},
		"other cluster":      {fromSnapshot(elsewhere(snapshot)), codes.InvalidArgument, "its own cluster only"},
		"other namespace":    {func(r *csi.CreateVolumeRequest) { fromSnapshot(snapshot)(r); r.Parameters["radosNamespace"] = "tenant" }, codes.InvalidArgument, "its own namespace only"},
		"neither":            {func(r *csi.CreateVolumeRequest) { r.VolumeContentSource = &csi.VolumeContentSource{} }, codes.InvalidArgument, "neither a snapshot nor a volume"},
	} {
		t.Run(name, func(t *testing.T) {
			_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-2"; c.change(r) }))
			is(t, err, c.code, c.says)
		})
	}
}

// The name of a volume belongs to one source.
func TestRepeatsWithAnotherSource(t *testing.T) {
	s, _, _ := bench(t)
	volume := s.volume(t, "pvc-1")
	one, two := s.snap(t, volume, "one").GetSnapshotId(), s.snap(t, volume, "two").GetSnapshotId()
	s.volume(t, "pvc-2", fromSnapshot(one))
	for _, other := range []func(*csi.CreateVolumeRequest){fromSnapshot(two), fromVolume(volume.GetVolumeId()), plain} {
		_, err := s.CreateVolume(t.Context(), request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-2"; other(r) }))
		is(t, err, codes.AlreadyExists, "volume_content_source: ")
	}
	_, err := s.CreateVolume(t.Context(), request(fromSnapshot(one)))
	is(t, err, codes.AlreadyExists, "volume_content_source: ")
}

// A clone that was cut off has its parent's metadata, and is completed.
func TestACutOffCloneIsCompleted(t *testing.T) {
	for _, gone := range []bool{false, true} {
		s, _, conn := bench(t)
		volume := s.volume(t, "pvc-1")
		source, err := conn.ImageInfo(t.Context(), imageRef(t, volume))
		require.NoError(t, err)
		temporary, err := conn.CreateSnapshot(t.Context(), imageRef(t, volume), imagemeta.TemporaryPrefix+"pvc-2")
		require.NoError(t, err)
		ref := ceph.ImageRef{PoolID: 1, Name: "pvc-2"}
		require.NoError(t, conn.CloneImage(t.Context(), temporary.Ref, ref, ceph.ImageSpec{Size: 1 << 30, Metadata: source.Metadata}))
		if gone {
			s.delete(t, volume)
		}
		clone := s.volume(t, "pvc-2", fromVolume(volume.GetVolumeId()), ofSize(3<<30))
		require.Equal(t, int64(3<<30), clone.GetCapacityBytes())
		info, err := conn.ImageInfo(t.Context(), ref)
		require.NoError(t, err)
		require.Equal(t, int64(3<<30), info.Size)
		require.Equal(t, "pvc-2", info.Metadata[imagemeta.Name])
		require.Equal(t, volume.GetVolumeId(), info.Metadata[imagemeta.Source])
	}
}

// Chains of clones end at a hard limit, with a refusal that says what is done.
func TestChainsOfClonesAreBounded(t *testing.T) {
	s, _, conn := bench(t)
	last := s.volume(t, "pvc-0")
	for _, name := range []string{"pvc-1", "pvc-2", "pvc-3"} {
		last = s.volume(t, name, fromVolume(last.GetVolumeId()))
	}
	deeper := request(func(r *csi.CreateVolumeRequest) { r.Name = "pvc-4"; fromVolume(last.GetVolumeId())(r) })
	_, err := s.CreateVolume(t.Context(), deeper)
	is(t, err, codes.Aborted, "it is being flattened")
	require.NoError(t, conn.FlattenImage(t.Context(), imageRef(t, last), nil))
	_, err = s.CreateVolume(t.Context(), deeper)
	require.NoError(t, err)
}

// A clone has the limits that it was asked for, not its parent's.
func TestACloneHasLimitsOfItsOwn(t *testing.T) {
	s, _, conn := bench(t)
	slow := s.volume(t, "pvc-1", func(r *csi.CreateVolumeRequest) { r.MutableParameters = map[string]string{"iops": "100"} })
	for name, mutable := range map[string]map[string]string{"pvc-2": nil, "pvc-3": {"writeBandwidth": "1Mi"}} {
		clone := s.volume(t, name, fromVolume(slow.GetVolumeId()), func(r *csi.CreateVolumeRequest) { r.MutableParameters = mutable })
		info, err := conn.ImageInfo(t.Context(), imageRef(t, clone))
		require.NoError(t, err)
		want, err := parseQoS(mutable)
		require.NoError(t, err)
		require.Equal(t, want.Limits, info.Limits)
	}
}
