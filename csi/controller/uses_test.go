package controller

import (
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/imagemeta"
)

const readers = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY

func wanted(c ...*csi.VolumeCapability) func(*csi.CreateVolumeRequest) {
	return func(r *csi.CreateVolumeRequest) { r.VolumeCapabilities = c }
}

// The log of a filesystem is to be replayed where the volume begins with one and
// nobody will write to it, and nowhere else; no clone takes that from its parent.
func TestLogIsPendingWhereNobodyWrites(t *testing.T) {
	s, _, conn := bench(t)
	log := func(v *csi.Volume) map[string]string {
		info, err := conn.ImageInfo(t.Context(), imageRef(t, v))
		require.NoError(t, err)
		return map[string]string{"log": info.Metadata[imagemeta.Log], "by": info.Metadata[imagemeta.LogReplayer]}
	}
	none, pending := map[string]string{"log": "", "by": ""}, map[string]string{"log": imagemeta.LogPending, "by": ""}
	origin := s.volume(t, "pvc-0", wanted(mountCapability(readers)))
	require.Equal(t, none, log(origin), "it begins with nothing")
	from := fromSnapshot(s.snap(t, origin, "s").GetSnapshotId())
	require.Equal(t, none, log(s.volume(t, "pvc-1", from)))
	require.Equal(t, none, log(s.volume(t, "pvc-2", from, wanted(blockCapability(readers)))))
	require.Equal(t, pending, log(s.volume(t, "pvc-3", from, wanted(mountCapability(writer), mountCapability(readers)))))
	read := s.volume(t, "pvc-4", from, wanted(mountCapability(readers)))
	require.Equal(t, pending, log(read))
	require.NoError(t, conn.SetImageMetadata(t.Context(), imageRef(t, read), map[string]string{imagemeta.Log: "n", imagemeta.LogReplayer: "n"}))
	require.Equal(t, map[string]string{"log": "n", "by": "n"}, log(s.volume(t, "pvc-4", from, wanted(mountCapability(readers)))), "a repeat leaves it as it is")
	require.Equal(t, none, log(s.volume(t, "pvc-5", fromVolume(read.GetVolumeId()))))
	require.Equal(t, pending, log(s.volume(t, "pvc-6", fromVolume(read.GetVolumeId()), wanted(mountCapability(readers)))))
}

// An xfs has a least size, which a volume is given where it may be larger than asked for.
func TestLeastSizeOfAnXFS(t *testing.T) {
	s, _, _ := bench(t)
	v := s.volume(t, "pvc-1", ofSize(64<<20))
	require.Equal(t, int64(300<<20), v.GetCapacityBytes())
	require.Equal(t, v.GetVolumeId(), s.volume(t, "pvc-1", ofSize(64<<20)).GetVolumeId())
	require.Equal(t, int64(64<<20), s.volume(t, "pvc-2", ofSize(64<<20), wanted(blockCapability(writer))).GetCapacityBytes())
	least := func(c *csi.VolumeCapability) int64 {
		answer, err := s.GetCapacity(t.Context(), &csi.GetCapacityRequest{Parameters: request(plain).GetParameters(), VolumeCapabilities: []*csi.VolumeCapability{c}})
		require.NoError(t, err)
		return answer.GetMinimumVolumeSize().GetValue()
	}
	require.Equal(t, int64(300<<20), least(mountCapability(writer)))
	require.Equal(t, int64(1<<20), least(blockCapability(writer)))
}
