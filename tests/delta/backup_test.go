package delta

import (
	"bytes"
	"crypto/sha256"
	"errors"
	"fmt"
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
	file, err := os.Create(filepath.Join(t.TempDir(), "backup"))
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, file.Close()) })
	b := backup{file}
	b.add(t, v, s, v.allocated(t, s, 0, 0))
	return b
}

// add reads extents from a snapshot and puts them into the file.
func (b backup) add(t *testing.T, v *volume, s snapshot, list sorted) {
	opened := v.at(t, s)
	require.NoError(t, atOnce(list.parts(), func(e extent, buffer []byte) error {
		part := buffer[:e.end-e.begin]
		if err := readAll(opened, part, e.begin); err != nil {
			return err
		}
		_, err := b.file.WriteAt(part, e.begin)
		return err
	}))
	require.NoError(t, opened.Close())
	require.NoError(t, b.file.Truncate(s.size))
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
	for _, e := range (sorted{{0, size}}).parts() {
		part := buffer[:e.end-e.begin]
		require.NoError(t, readAll(from, part, e.begin))
		_, _ = hash.Write(part) // never fails
	}
	return hash.Sum(nil)
}

// readAll fills a buffer.
func readAll(from io.ReaderAt, p []byte, offset int64) error {
	n, err := from.ReadAt(p, offset)
	if n == len(p) && (err == nil || errors.Is(err, io.EOF)) {
		return nil
	}
	return fmt.Errorf("read %d bytes at %d, got %d: %w", len(p), offset, n, err)
}

// requireHolds reads a snapshot whole and compares it, byte by byte, with what
// the volume holds, and with what blocks held before.
func (v *volume) requireHolds(t *testing.T, s snapshot, before map[int64][]byte) {
	opened := v.at(t, s)
	require.NoError(t, atOnce((sorted{{0, s.size}}).parts(), func(e extent, buffer []byte) error {
		got := buffer[:e.end-e.begin]
		if err := readAll(opened, got, e.begin); err != nil {
			return err
		}
		for at := e.begin; at < e.end; at += block {
			want, ok := before[at/block]
			if !ok {
				want = v.data[at : at+block]
			}
			if !bytes.Equal(want, got[at-e.begin:at-e.begin+block]) {
				return fmt.Errorf("block %d of the snapshot is not what was written", at/block)
			}
		}
		return nil
	}))
	require.NoError(t, opened.Close())
}
