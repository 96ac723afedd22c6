package contract

import (
	"bytes"
	"testing"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func (s *suite) encryption(t *testing.T) {
	const size = 16 * mib
	const passphrase = ceph.Passphrase("correct horse")
	w := &written{ref: ceph.ImageRef{PoolID: s.poolID, Name: "secret-" + uuid.NewString()}, random: s.random(), holds: make([]byte, size)}
	spec := ceph.ImageSpec{Size: size, Passphrase: passphrase, Metadata: map[string]string{"a": "1"}}
	require.NoError(t, s.conn.CreateImage(s.ctx, w.ref, spec))
	requireKind(t, ceph.Exists, s.conn.CreateImage(s.ctx, w.ref, spec))
	info := s.info(t, w.ref)
	require.True(t, info.Encrypted)
	require.EqualValues(t, size, info.Size, "without the header")
	require.Equal(t, spec.Metadata, info.Metadata)
	s.requireLocked(t, w.ref)

	w.open(t, s, ceph.OpenOptions{Exclusive: true, Passphrase: passphrase})
	opened, err := w.opened.Size()
	require.NoError(t, err)
	require.EqualValues(t, size, opened)
	before := w.change(t, 30)
	w.close(t)
	s.requireHolds(t, w.ref, ceph.OpenOptions{Passphrase: passphrase}, before)
	snap := s.snapshot(t, w.ref, "one")
	require.EqualValues(t, size, snap.Size)
	requireDiff(t, make([]byte, size), before, s.diffOf(t, nil, snap.Ref, 0))
	w.open(t, s, ceph.OpenOptions{Passphrase: passphrase})
	after := w.change(t, 10)
	w.close(t)
	second := s.snapshot(t, w.ref, "two")
	requireDiff(t, before, after, s.diffOf(t, &snap.Ref, second.Ref, 0))
	s.requireHolds(t, w.ref, ceph.OpenOptions{Passphrase: passphrase, Snapshot: snap.Ref.SnapID}, before)

	s.encryptedClone(t, snap, passphrase, before)
	require.NoError(t, s.conn.GrowImage(s.ctx, w.ref, 2*size))
	require.EqualValues(t, 2*size, s.info(t, w.ref).Size)
	s.requireHolds(t, w.ref, ceph.OpenOptions{Passphrase: passphrase}, append(after, make([]byte, size)...))
	plain := s.image(t, mib)
	_, err = s.conn.OpenImage(s.ctx, plain, ceph.OpenOptions{Passphrase: passphrase})
	requireKind(t, ceph.Invalid, err)
	require.False(t, s.info(t, plain).Encrypted)
}

// requireLocked checks that an image opens with its passphrase only.
func (s *suite) requireLocked(t *testing.T, ref ceph.ImageRef) {
	for passphrase, kind := range map[ceph.Passphrase]ceph.Kind{"": ceph.Invalid, "wrong": ceph.Forbidden} {
		_, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{Passphrase: passphrase})
		requireKind(t, kind, err)
		require.NotContains(t, err.Error(), "wrong")
	}
	require.Empty(t, s.info(t, ref).Watchers)
}

func (s *suite) encryptedClone(t *testing.T, snap *ceph.SnapshotInfo, passphrase ceph.Passphrase, held []byte) {
	size := snap.Size
	ref := ceph.ImageRef{PoolID: s.poolID, Name: "secret-clone-" + uuid.NewString()}
	require.NoError(t, s.conn.CloneImage(s.ctx, snap.Ref, ref, ceph.ImageSpec{Size: 2 * size, Passphrase: passphrase}))
	info := s.info(t, ref)
	require.True(t, info.Encrypted)
	require.EqualValues(t, 2*size, info.Size)
	child := &written{ref: ref, random: s.random(), holds: s.read(t, ref, ceph.OpenOptions{Passphrase: passphrase})}
	require.True(t, bytes.Equal(append(append([]byte(nil), held...), make([]byte, size)...), child.holds))
	child.open(t, s, ceph.OpenOptions{Exclusive: true, Passphrase: passphrase})
	changed := child.change(t, 30)
	child.close(t)
	s.requireHolds(t, ref, ceph.OpenOptions{Passphrase: passphrase}, changed)
	require.NoError(t, s.conn.FlattenImage(s.ctx, ref, nil))
	s.requireHolds(t, ref, ceph.OpenOptions{Passphrase: passphrase}, changed)
}
