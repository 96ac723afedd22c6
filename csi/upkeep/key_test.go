package upkeep

import (
	"context"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/kms"
)

// The key of an encrypted image ends when no snapshot of it can be restored any
// more, and before the image, so that none is left without one who knows it.
func TestTheKeyOfAPurgedImageIsForgotten(t *testing.T) {
	s := newSite(t)
	var forgotten []string
	fail := errors.New("no Vault")
	s.u.Forget = func(_ context.Context, record string) error {
		if fail == nil {
			forgotten = append(forgotten, record)
		}
		return fail
	}
	image := s.image("pvc-1")
	require.NoError(t, s.conn.SetImageMetadata(t.Context(), image, map[string]string{kms.MetadataKey: "record"}))
	snapshot := s.snapshot(image, "snap")
	image = s.hide(image)

	s.due(purge, image)
	require.Empty(t, forgotten, "a snapshot may be restored")
	require.True(t, s.exists(image))
	s.removeSnapshot(snapshot)
	s.due(purge, image)
	require.True(t, s.exists(image), "the key was not forgotten yet")
	fail = nil
	s.due(purge, image)
	require.Equal(t, []string{"record"}, forgotten)
	require.False(t, s.exists(image))
}
