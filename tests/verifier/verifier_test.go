package verifier

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestASoundFileLosesNothing(t *testing.T) {
	result, err := Run(t.Context(), Options{Path: filepath.Join(t.TempDir(), "f"), Size: 1 << 20, Depth: 4, Duration: 200 * time.Millisecond})
	require.NoError(t, err)
	require.True(t, result.Sound(), "%+v", result)
}

func TestLossesAreSeen(t *testing.T) {
	path := filepath.Join(t.TempDir(), "f")
	block := aligned()
	write := func(t *testing.T, content func()) *run {
		content()
		require.NoError(t, os.WriteFile(path, block, 0o600))
		v := &run{blocks: 1, acked: []uint64{7}, tried: []uint64{8}}
		require.NoError(t, v.check(path))
		return v
	}
	t.Run("the acknowledged write", func(t *testing.T) {
		require.Zero(t, write(t, func() { fill(block, 0, 7) }).result)
	})
	t.Run("a write that was under way", func(t *testing.T) {
		require.Zero(t, write(t, func() { fill(block, 0, 8) }).result)
	})
	t.Run("an older write", func(t *testing.T) {
		require.EqualValues(t, 1, write(t, func() { fill(block, 0, 6) }).result.Lost)
	})
	t.Run("a write of another block", func(t *testing.T) {
		require.EqualValues(t, 1, write(t, func() { fill(block, 1, 7) }).result.Corrupt)
	})
	t.Run("one changed bit", func(t *testing.T) {
		require.EqualValues(t, 1, write(t, func() { fill(block, 0, 7); block[3000] ^= 1 }).result.Corrupt)
	})
	t.Run("zeroes", func(t *testing.T) {
		require.EqualValues(t, 1, write(t, func() { clear(block) }).result.Corrupt)
	})
}
