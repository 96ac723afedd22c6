package controller

import (
	"context"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// sink is a stream that keeps what is sent.
type sink[T any] struct {
	grpc.ServerStream
	ctx  context.Context
	sent []*T
}

func (s *sink[T]) Context() context.Context { return s.ctx }

func (s *sink[T]) Send(m *T) error {
	s.sent = append(s.sent, m)
	return nil
}

type extents [][2]int64

func (s *Server) allocated(t *testing.T, req *csi.GetMetadataAllocatedRequest) (found extents, messages int) {
	t.Helper()
	to := &sink[csi.GetMetadataAllocatedResponse]{ctx: t.Context()}
	require.NoError(t, s.GetMetadataAllocated(req, to))
	for _, m := range to.sent {
		require.Equal(t, csi.BlockMetadataType_VARIABLE_LENGTH, m.GetBlockMetadataType())
		require.Equal(t, int64(1<<30), m.GetVolumeCapacityBytes())
		for _, b := range m.GetBlockMetadata() {
			found = append(found, [2]int64{b.GetByteOffset(), b.GetSizeBytes()})
		}
	}
	return found, len(to.sent)
}

func (s *Server) delta(t *testing.T, req *csi.GetMetadataDeltaRequest) (found extents) {
	t.Helper()
	to := &sink[csi.GetMetadataDeltaResponse]{ctx: t.Context()}
	require.NoError(t, s.GetMetadataDelta(req, to))
	require.NotEmpty(t, to.sent)
	for _, m := range to.sent {
		for _, b := range m.GetBlockMetadata() {
			found = append(found, [2]int64{b.GetByteOffset(), b.GetSizeBytes()})
		}
	}
	return found
}

func TestChangedBlocks(t *testing.T) {
	s, _, conn := bench(t)
	volume := s.volume(t, "pvc-1")
	empty := s.snap(t, volume, "s0").GetSnapshotId()
	for block := range int64(5) {
		write(t, conn, volume, "x", 2*block*4096)
	}
	write(t, conn, volume, "x", 4096)
	first := s.snap(t, volume, "s1").GetSnapshotId()
	all := extents{{0, 3 * 4096}, {4 * 4096, 4096}, {6 * 4096, 4096}, {8 * 4096, 4096}}

	got, messages := s.allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: first})
	require.Equal(t, all, got)
	require.Equal(t, 1, messages)
	got, messages = s.allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: first, MaxResults: 2})
	require.Equal(t, all, got)
	require.Equal(t, 2, messages)
	got, messages = s.allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: empty})
	require.Empty(t, got)
	require.Equal(t, 1, messages, "the size is told all the same")

	// It goes on from any offset.
	for _, e := range all {
		end := e[0] + e[1]
		rest, _ := s.allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: first, StartingOffset: end})
		for _, r := range rest {
			require.GreaterOrEqual(t, r[0], end)
		}
	}
	rest, _ := s.allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: first, StartingOffset: 1 << 30})
	require.Empty(t, rest)

	// A discard is a change too.
	image, err := conn.OpenImage(t.Context(), imageRef(t, volume), ceph.OpenOptions{})
	require.NoError(t, err)
	require.NoError(t, image.Discard(4096, 4096))
	require.NoError(t, image.Close())
	write(t, conn, volume, "y", 6*4096)
	second := s.snap(t, volume, "s2").GetSnapshotId()
	require.Equal(t, extents{{4096, 4096}, {6 * 4096, 4096}}, s.delta(t, &csi.GetMetadataDeltaRequest{BaseSnapshotId: first, TargetSnapshotId: second}))
	require.Equal(t, extents{{6 * 4096, 4096}}, s.delta(t, &csi.GetMetadataDeltaRequest{BaseSnapshotId: first, TargetSnapshotId: second, StartingOffset: 8192}))
	require.Empty(t, s.delta(t, &csi.GetMetadataDeltaRequest{BaseSnapshotId: second, TargetSnapshotId: second}))

	// A restored volume's snapshots count from what was restored.
	restored := s.volume(t, "pvc-2", fromSnapshot(second))
	before := s.snap(t, restored, "r0").GetSnapshotId()
	write(t, conn, restored, "z", 100*4096)
	after := s.snap(t, restored, "r1").GetSnapshotId()
	require.Equal(t, extents{{100 * 4096, 4096}}, s.delta(t, &csi.GetMetadataDeltaRequest{BaseSnapshotId: before, TargetSnapshotId: after}))
	got, _ = s.allocated(t, &csi.GetMetadataAllocatedRequest{SnapshotId: before})
	require.Equal(t, extents{{0, 4096}, {2 * 4096, 4096}, {4 * 4096, 4096}, {6 * 4096, 4096}, {8 * 4096, 4096}}, got)
}

func TestChangedBlocksRefuse(t *testing.T) {
	s, _, _ := bench(t)
	volume := s.volume(t, "pvc-1")
	one, two := s.snap(t, volume, "a").GetSnapshotId(), s.snap(t, volume, "b").GetSnapshotId()
	other := s.snap(t, s.volume(t, "pvc-2"), "c").GetSnapshotId()
	allocated := func(r *csi.GetMetadataAllocatedRequest) error {
		return s.GetMetadataAllocated(r, &sink[csi.GetMetadataAllocatedResponse]{ctx: t.Context()})
	}
	delta := func(base, target string, from int64) error {
		return s.GetMetadataDelta(&csi.GetMetadataDeltaRequest{BaseSnapshotId: base, TargetSnapshotId: target, StartingOffset: from},
			&sink[csi.GetMetadataDeltaResponse]{ctx: t.Context()})
	}
	is(t, allocated(&csi.GetMetadataAllocatedRequest{}), codes.InvalidArgument, "snapshot_id:")
	is(t, allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: "x"}), codes.NotFound, "snapshot_id:")
	is(t, allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: one + "0"}), codes.NotFound, "snapshot")
	is(t, allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: one, StartingOffset: -1}), codes.OutOfRange, "starting_offset:")
	is(t, allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: one, StartingOffset: 1<<30 + 1}), codes.OutOfRange, "starting_offset:")
	is(t, allocated(&csi.GetMetadataAllocatedRequest{SnapshotId: one, MaxResults: -1}), codes.InvalidArgument, "max_results:")
	is(t, delta("", two, 0), codes.InvalidArgument, "base_snapshot_id:")
	is(t, delta(one, "", 0), codes.InvalidArgument, "target_snapshot_id:")
	is(t, delta(two, one, 0), codes.InvalidArgument, "is younger than")
	is(t, delta(one, other, 0), codes.InvalidArgument, "another volume")
	is(t, delta(one, two, 1<<31), codes.OutOfRange, "starting_offset:")
}
