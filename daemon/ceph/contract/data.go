package contract

import (
	"bytes"
	"fmt"
	"math/rand"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const discarded = 64 << 10

// written is an image and what it should hold.
type written struct {
	ref    ceph.ImageRef
	random *rand.Rand
	holds  []byte
	opened ceph.Image
}

// write makes an image and opens it for random writes.
func (s *suite) write(t *testing.T, size int64) *written {
	w := &written{ref: s.image(t, size), random: rand.New(rand.NewSource(size)), holds: make([]byte, size)}
	w.open(t, s, ceph.OpenOptions{})
	return w
}

func (w *written) open(t *testing.T, s *suite, options ceph.OpenOptions) {
	opened, err := s.conn.OpenImage(s.ctx, w.ref, options)
	require.NoError(t, err)
	w.opened = opened
}

// change writes, zeroes and discards at random, and returns what the image then
// holds. Discards are of whole 64 KiB: what is less may be left as it is.
func (w *written) change(t *testing.T, times int) []byte {
	for range times {
		length := 4096 * (1 + w.random.Int63n(16))
		offset := 4096 * w.random.Int63n((int64(len(w.holds))-length)/4096)
		part := w.holds[offset : offset+length]
		switch w.random.Intn(6) {
		case 0:
			clear(part)
			require.NoError(t, w.opened.WriteZeroes(offset, length))
			continue
		case 1:
			offset -= offset % discarded
			clear(w.holds[offset : offset+discarded])
			require.NoError(t, w.opened.Discard(offset, discarded))
			continue
		}
		_, _ = w.random.Read(part)
		_, err := w.opened.WriteAt(part, offset)
		require.NoError(t, err)
	}
	require.NoError(t, w.opened.Flush())
	return append([]byte(nil), w.holds...)
}

func (w *written) close(t *testing.T) { require.NoError(t, w.opened.Close()) }

// read returns all that an image, or its snapshot, holds.
func (s *suite) read(t *testing.T, ref ceph.ImageRef, options ceph.OpenOptions) []byte {
	t.Helper()
	options.ReadOnly = true
	opened, err := s.conn.OpenImage(s.ctx, ref, options)
	require.NoError(t, err)
	size, err := opened.Size()
	require.NoError(t, err)
	data := make([]byte, size)
	_, err = opened.ReadAt(data, 0)
	require.NoError(t, err)
	require.NoError(t, opened.Close())
	return data
}

func (s *suite) info(t *testing.T, ref ceph.ImageRef) *ceph.ImageInfo {
	t.Helper()
	info, err := s.conn.ImageInfo(s.ctx, ref)
	require.NoError(t, err)
	return info
}

func (s *suite) snapshot(t *testing.T, ref ceph.ImageRef, name string) *ceph.SnapshotInfo {
	t.Helper()
	info, err := s.conn.CreateSnapshot(s.ctx, ref, name)
	require.NoError(t, err)
	return info
}

// clone makes a clone of a snapshot, as large as it.
func (s *suite) clone(t *testing.T, snap *ceph.SnapshotInfo, name string) ceph.ImageRef {
	t.Helper()
	ref := ceph.ImageRef{PoolID: s.poolID, Name: name}
	require.NoError(t, s.conn.CloneImage(s.ctx, snap.Ref, ref, ceph.ImageSpec{Size: snap.Size, DataPool: s.dataPool, Metadata: map[string]string{"clone": name}}))
	return ref
}

// requireHolds checks every byte of an image, or its snapshot.
func (s *suite) requireHolds(t *testing.T, ref ceph.ImageRef, options ceph.OpenOptions, want []byte, why ...any) {
	t.Helper()
	got := s.read(t, ref, options)
	require.Len(t, got, len(want))
	for at := 0; at < len(want); at += 4096 {
		if !bytes.Equal(want[at:at+4096], got[at:at+4096]) {
			require.Fail(t, fmt.Sprintf("the bytes at %d differ", at), why...)
		}
	}
}
