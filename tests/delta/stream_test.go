package delta

import (
	"errors"
	"fmt"
	"io"
	"sort"
	"sync/atomic"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"
)

// extent is a range of bytes.
type extent struct{ begin, end int64 }

func (e extent) String() string { return fmt.Sprintf("[%d, %d)", e.begin, e.end) }

// sorted are extents in order, none touching the next.
type sorted []extent

func (s sorted) covers(offset int64) bool { return s.coversAll(offset, offset+1) }

func (s sorted) coversAll(begin, end int64) bool {
	n := sort.Search(len(s), func(i int) bool { return s[i].end > begin })
	return n < len(s) && s[n].begin <= begin && end <= s[n].end
}

func (s sorted) bytes() (sum int64) {
	for _, e := range s {
		sum += e.end - e.begin
	}
	return sum
}

// from returns what is at an offset or after it.
func (s sorted) from(offset int64) (rest sorted) {
	for _, e := range s {
		if e.end > offset {
			rest = append(rest, extent{max(e.begin, offset), e.end})
		}
	}
	return rest
}

// parts cuts extents into pieces of an object at most.
func (s sorted) parts() (parts sorted) {
	for _, e := range s {
		for at := e.begin; at < e.end; {
			end := min((at/object+1)*object, e.end)
			parts = append(parts, extent{at, end})
			at = end
		}
	}
	return parts
}

// atOnce runs f for extents of an object at most, a few at once, each with a
// buffer that is long enough.
func atOnce(list sorted, f func(e extent, buffer []byte) error) error {
	var group errgroup.Group
	var next atomic.Int64
	for range 4 {
		group.Go(func() error {
			buffer := make([]byte, object)
			for {
				n := int(next.Add(1) - 1)
				if n >= len(list) {
					return nil
				}
				if err := f(list[n], buffer); err != nil {
					return fmt.Errorf("extent %v: %w", list[n], err)
				}
			}
		})
	}
	return group.Wait()
}

// message is an answer of either call.
type message interface {
	GetBlockMetadataType() csi.BlockMetadataType
	GetVolumeCapacityBytes() int64
	GetBlockMetadata() []*csi.BlockMetadata
}

// delta asks for what differs between two snapshots, from an offset on and a
// number of extents a message (0: as many as the driver likes).
func (b *bed) delta(t *testing.T, base, target snapshot, offset int64, results int32) sorted {
	stream, err := b.metadata.GetMetadataDelta(t.Context(), &csi.GetMetadataDeltaRequest{
		BaseSnapshotId: base.id, TargetSnapshotId: target.id, StartingOffset: offset, MaxResults: results})
	require.NoError(t, err)
	return collect(t, target, results, stream.Recv)
}

// allocated asks for what a snapshot holds.
func (b *bed) allocated(t *testing.T, s snapshot, offset int64, results int32) sorted {
	stream, err := b.metadata.GetMetadataAllocated(t.Context(), &csi.GetMetadataAllocatedRequest{
		SnapshotId: s.id, StartingOffset: offset, MaxResults: results})
	require.NoError(t, err)
	return collect(t, s, results, stream.Recv)
}

// collect reads a stream to its end, and checks what the specification wants of
// it, and that what touches is joined.
func collect[M message](t *testing.T, of snapshot, results int32, recv func() (M, error)) (all sorted) {
	messages, last := 0, int64(-1)
	for {
		m, err := recv()
		if errors.Is(err, io.EOF) {
			require.Positive(t, messages, "a stream says the volume's size")
			return all
		}
		require.NoError(t, err)
		messages++
		require.Equal(t, csi.BlockMetadataType_VARIABLE_LENGTH, m.GetBlockMetadataType())
		require.Equal(t, of.size, m.GetVolumeCapacityBytes())
		if results > 0 {
			require.LessOrEqual(t, len(m.GetBlockMetadata()), int(results))
		}
		for _, e := range m.GetBlockMetadata() {
			require.Greater(t, e.GetByteOffset(), last, "in order, with a gap")
			require.Positive(t, e.GetSizeBytes())
			last = e.GetByteOffset() + e.GetSizeBytes()
			all = append(all, extent{e.GetByteOffset(), last})
		}
		require.LessOrEqual(t, last, of.size)
	}
}
