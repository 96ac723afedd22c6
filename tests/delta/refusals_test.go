package delta

import (
	"strings"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
)

// refusals are of requests that name no delta.
func (b *bed) refusals(t *testing.T) {
	v := b.create(t, newContent(t, 8*mib, 8*mib), "")
	older, newer := v.snapshot(t), v.snapshot(t)
	restored := v.restore(t, newer)
	other := restored.snapshot(t)
	gone := v.snapshot(t)
	_, err := b.driver.DeleteSnapshot(t.Context(), &csi.DeleteSnapshotRequest{SnapshotId: gone.id})
	require.NoError(t, err)

	latest := v.snapshot(t)

	require.Empty(t, b.delta(t, older, newer, 0, 0), "nothing was written")
	require.Empty(t, b.delta(t, newer, newer, 0, 0), "a snapshot does not differ from itself")
	require.Empty(t, b.allocated(t, newer, 8*mib, 0), "nothing is behind the end")

	elsewhere := snapshot{id: strings.Replace(newer.id, newer.id[3:11], "00000000", 1)}
	for name, c := range map[string]struct {
		base, target snapshot
		offset       int64
		results      int32
		want         codes.Code
	}{
		"the younger first":        {newer, older, 0, 0, codes.InvalidArgument},
		"another volume's":         {newer, other, 0, 0, codes.InvalidArgument},
		"the parent's as target":   {other, newer, 0, 0, codes.InvalidArgument},
		"another cluster's":        {elsewhere, newer, 0, 0, codes.InvalidArgument},
		"no base":                  {snapshot{}, newer, 0, 0, codes.InvalidArgument},
		"no target":                {older, snapshot{}, 0, 0, codes.InvalidArgument},
		"a volume's ID":            {older, snapshot{id: v.id}, 0, 0, codes.NotFound},
		"no ID":                    {snapshot{id: "../../x"}, newer, 0, 0, codes.NotFound},
		"a base that is gone":      {gone, latest, 0, 0, codes.NotFound},
		"a target that is gone":    {older, gone, 0, 0, codes.NotFound},
		"one that is gone, itself": {gone, gone, 0, 0, codes.NotFound},
		"an offset below 0":        {older, newer, -1, 0, codes.OutOfRange},
		"an offset past the end":   {older, newer, 8*mib + 1, 0, codes.OutOfRange},
		"negative results":         {older, newer, 0, -1, codes.InvalidArgument},
	} {
		t.Run(name, func(t *testing.T) {
			stream, err := b.metadata.GetMetadataDelta(t.Context(), &csi.GetMetadataDeltaRequest{
				BaseSnapshotId: c.base.id, TargetSnapshotId: c.target.id, StartingOffset: c.offset, MaxResults: c.results})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.Equal(t, c.want, status.Code(err), "%v", err)
		})
	}
	for name, c := range map[string]struct {
		of      snapshot
		offset  int64
		results int32
		want    codes.Code
	}{
		"of none":                   {snapshot{}, 0, 0, codes.InvalidArgument},
		"of a volume":               {snapshot{id: v.id}, 0, 0, codes.NotFound},
		"of one that is gone":       {gone, 0, 0, codes.NotFound},
		"from before the beginning": {newer, -1, 0, codes.OutOfRange},
		"from past the end":         {newer, 8*mib + 1, 0, codes.OutOfRange},
		"in messages below nothing": {newer, 0, -5, codes.InvalidArgument},
	} {
		t.Run("allocated "+name, func(t *testing.T) {
			stream, err := b.metadata.GetMetadataAllocated(t.Context(), &csi.GetMetadataAllocatedRequest{
				SnapshotId: c.of.id, StartingOffset: c.offset, MaxResults: c.results})
			require.NoError(t, err)
			_, err = stream.Recv()
			require.Equal(t, c.want, status.Code(err), "%v", err)
		})
	}
}
