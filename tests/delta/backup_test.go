package delta

import (
	"bytes"
	"crypto/sha256"
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

// backup is a file that a backup application keeps of a volume: all that the
// first snapshot has allocated, then what each delta names.
type backup struct{ file *os.File }

func newBackup(t *testing.T, v *volume, s snapshot) backup {
	b := backup{create(t)}
	b.add(t, v, s, v.allocated(t, s, 0, 0))
	return b
}

func create(t *testing.T) *os.File {
	file, err := os.Create(filepath.Join(t.TempDir(), "backup"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	return file
}

// add reads extents from a snapshot and puts them into the file.
func (b backup) add(t *testing.T, v *volume, s snapshot, list sorted) {
	opened := v.at(t, s)
	for _, e := range list {
		_, err := io.Copy(io.NewOffsetWriter(b.file, e.begin), io.NewSectionReader(opened, e.begin, e.end-e.begin))
		require.NoError(t, err)
	}
	require.NoError(t, opened.Close())
	require.NoError(t, b.file.Truncate(s.size))
}

func (b backup) copy(t *testing.T) backup {
	other := backup{create(t)}
	info, err := b.file.Stat()
	require.NoError(t, err)
	_, err = io.Copy(other.file, io.NewSectionReader(b.file, 0, info.Size()))
	require.NoError(t, err)
	return other
}

// requireIs compares the file's checksum with a snapshot's.
func (b backup) requireIs(t *testing.T, v *volume, s snapshot) {
	opened := v.at(t, s)
	require.Equal(t, sum(t, opened, s.size), sum(t, b.file, s.size), "the volume rebuilt from deltas is the snapshot")
	require.NoError(t, opened.Close())
	info, err := b.file.Stat()
	require.NoError(t, err)
	require.Equal(t, s.size, info.Size())
}

func sum(t *testing.T, from io.ReaderAt, size int64) []byte {
	hash, buffer := sha256.New(), make([]byte, object)
	for offset := int64(0); offset < size; offset += object {
		part := buffer[:min(object, size-offset)]
		n, err := from.ReadAt(part, offset)
		if err != io.EOF || n != len(part) {
			require.NoError(t, err)
		}
		_, _ = io.Copy(hash, bytes.NewReader(part)) // never fails
	}
	return hash.Sum(nil)
}
