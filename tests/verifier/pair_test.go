package verifier

import (
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

func TestPair(t *testing.T) {
	dir := t.TempDir()
	first, second := filepath.Join(dir, "first"), filepath.Join(dir, "second")
	require.NoError(t, WritePair(t.Context(), first, second, 100*time.Millisecond))
	p, err := ReadPair(first, second)
	require.NoError(t, err)
	require.Equal(t, p.First, p.Second, "it ends after a whole number")
	require.True(t, p.Consistent(), "%+v", p)

	// write makes a file as it is after a number of writes, and may spoil it.
	write := func(t *testing.T, path string, last uint64, spoil func(blocks [][]byte)) {
		var blocks [][]byte
		for at := range uint64(pairBlocks) {
			blocks = append(blocks, whenLast(last, at))
		}
		spoil(blocks)
		var content []byte
		for _, block := range blocks {
			content = append(content, block...)
		}
		require.NoError(t, os.WriteFile(path, content, 0o600))
	}
	whole := func([][]byte) {}
	for _, last := range []uint64{0, 1, pairBlocks - 1, pairBlocks, 3*pairBlocks + 7} {
		write(t, first, last, whole)
		got, err := lastNumber(first)
		require.NoError(t, err)
		require.Equal(t, last, got)
	}
	t.Run("an older block among newer ones is seen", func(t *testing.T) {
		write(t, first, 200, func(blocks [][]byte) { fill(blocks[100%pairBlocks], 100%pairBlocks, 100-pairBlocks) })
		_, err := lastNumber(first)
		require.ErrorContains(t, err, "not what it was when number 200 was written")
	})
	t.Run("a block that was not written yet is seen", func(t *testing.T) {
		write(t, first, 10, func(blocks [][]byte) { blocks[20][5] = 1 })
		_, err := lastNumber(first)
		require.Error(t, err)
	})
	t.Run("only the first may be ahead, by one", func(t *testing.T) {
		require.True(t, Pair{5, 5}.Consistent())
		require.True(t, Pair{6, 5}.Consistent())
		require.False(t, Pair{7, 5}.Consistent())
		require.False(t, Pair{4, 5}.Consistent())
		require.False(t, Pair{0, 0}.Consistent())
	})
}
