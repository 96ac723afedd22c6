package volumes

import (
	"bytes"
	"errors"
	"io"
	"io/fs"
	"os"
	"path/filepath"
	"testing"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

// direct opens a device past the page cache.
func direct(t *testing.T, path string, f func(*os.File) error) {
	t.Helper()
	fd, err := unix.Open(path, unix.O_RDWR|unix.O_DIRECT|unix.O_CLOEXEC, 0)
	require.NoError(t, err)
	file := os.NewFile(uintptr(fd), path)
	require.NoError(t, errors.Join(f(file), file.Close()))
}

// aligned copies a block to where a device can reach it.
func aligned(block []byte) []byte {
	room := make([]byte, len(block)+4096)
	skip := -int(uintptr(unsafe.Pointer(&room[0]))) & 4095
	copy(room[skip:], block)
	return room[skip : skip+len(block)]
}

// onDisk reports whether a text is anywhere on the cluster's disks.
func (s *site) onDisk(text string) bool {
	found := false
	err := filepath.WalkDir(s.dir, func(path string, entry fs.DirEntry, err error) error {
		if err != nil || !entry.Type().IsRegular() || entry.Name() != "block" {
			return err
		}
		in, err := contains(path, []byte(text))
		found = found || in
		return err
	})
	require.NoError(s, err)
	return found
}

// contains looks for a text in what a sparse file holds.
func contains(path string, text []byte) (bool, error) {
	f, err := os.Open(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = f.Close() }()
	buffer := make([]byte, 4<<20)
	for offset := int64(0); ; {
		offset, err = f.Seek(offset, unix.SEEK_DATA)
		if errors.Is(err, unix.ENXIO) {
			return false, nil // the rest is a hole
		}
		if err != nil {
			return false, err
		}
		n, err := f.ReadAt(buffer, offset)
		if bytes.Contains(buffer[:n], text) {
			return true, nil
		}
		if err != nil {
			return false, ignoreEOF(err)
		}
		offset += int64(n - len(text))
	}
}

func ignoreEOF(err error) error {
	if errors.Is(err, io.EOF) {
		return nil
	}
	return err
}
