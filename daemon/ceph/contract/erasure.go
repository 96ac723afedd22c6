package contract

import (
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// RunErasureCoded checks what a cluster does with erasure-coded pools. It needs three OSDs.
func RunErasureCoded(t *testing.T, connector ceph.Connector, cred ceph.Credentials) {
	suite := newSuite(t, connector, cred)
	suite.makePool(t)
	suite.erasureCoded(t)
}

// erasureCoded makes an erasure-coded pool and one for the metadata of its images, and does
// there what images must be able to do.
func (s *suite) erasureCoded(t *testing.T) {
	data := ceph.PoolSpec{Name: "contract-coded.data", Size: 3, DataChunks: 2, CodingChunks: 1, FailureDomain: "osd", Application: "rbd"}
	requireKind(t, ceph.NotFound, s.conn.RemovePool(s.ctx, data.Name))
	for range 2 {
		require.NoError(t, s.conn.EnsurePool(s.ctx, data))
		now := s.find(t, data.Name)
		require.Equal(t, data, now.Spec)
		require.Equal(t, 2, now.MinSize, "any of the chunks may be missing")
	}
	for _, change := range []func(*ceph.PoolSpec){
		func(spec *ceph.PoolSpec) { spec.CodingChunks, spec.Size = 2, 4 },
		func(spec *ceph.PoolSpec) { spec.DataChunks, spec.CodingChunks = 0, 0 },
		func(spec *ceph.PoolSpec) { spec.FailureDomain = "host" },
	} {
		other := data
		change(&other)
		requireKind(t, ceph.Invalid, s.conn.EnsurePool(s.ctx, other))
	}
	coded := spec(poolName)
	coded.DataChunks, coded.CodingChunks, coded.Size = 2, 1, 3
	requireKind(t, ceph.Invalid, s.conn.EnsurePool(s.ctx, coded))

	images := spec("contract-coded")
	for _, images.DataPool = range []string{"", data.Name, data.Name} {
		require.NoError(t, s.conn.EnsurePool(s.ctx, images))
		require.Equal(t, images, s.find(t, images.Name).Spec)
	}
	id, err := s.conn.PoolID(s.ctx, images.Name)
	require.NoError(t, err)
	inCoded := *s
	inCoded.poolID, inCoded.dataPool = id, data.Name
	t.Run("usage", func(t *testing.T) { inCoded.usageOfCoded(t, data) })
	t.Run("images", inCoded.codedImages)
	t.Run("snapshots hold what was", inCoded.snapshotData)
	t.Run("clones are flattened", inCoded.flatten)
	t.Run("diffs", inCoded.diffs)
	t.Run("no encryption", func(t *testing.T) { inCoded.noEncryption(t, s.poolID) })
	t.Run("group snapshots", inCoded.groups)

	for _, name := range []string{images.Name, data.Name} {
		require.NoError(t, s.conn.RemovePool(s.ctx, name))
		requireKind(t, ceph.NotFound, s.conn.RemovePool(s.ctx, name))
	}
	data.DataChunks, data.CodingChunks, data.FailureDomain = 3, 2, "host"
	data.Size = 5
	require.NoError(t, s.conn.EnsurePool(s.ctx, data), "nothing is left of the one before")
	require.Equal(t, data, s.find(t, data.Name).Spec)
	require.Equal(t, 4, s.find(t, data.Name).MinSize, "one chunk of five may be missing: another can be lost")
	require.NoError(t, s.conn.RemovePool(s.ctx, data.Name))
}

// usageOfCoded: the pool that has the images is as full as that which has their data.
func (s *suite) usageOfCoded(t *testing.T, data ceph.PoolSpec) {
	pools, err := s.conn.ImagePools(s.ctx)
	require.NoError(t, err)
	require.Contains(t, pools, ceph.PoolName{ID: s.poolID, Name: "contract-coded"})
	for _, pool := range pools {
		require.NotEqual(t, data.Name, pool.Name, "it holds no image")
	}
	for _, data.QuotaBytes = range []int64{1 << 30, 0} {
		require.NoError(t, s.conn.EnsurePool(s.ctx, data))
		var usage *ceph.PoolUsage
		require.Eventually(t, func() bool { // a new pool's share is not told at once
			var err error
			usage, err = s.conn.PoolUsage(s.ctx, s.poolID)
			require.NoError(t, err)
			return usage.Available > 0
		}, time.Minute, 100*time.Millisecond)
		require.Equal(t, "contract-coded", usage.Name)
		require.Equal(t, data.Name, usage.DataPool)
		require.Equal(t, data.QuotaBytes, usage.Quota)
		require.False(t, usage.Full)
	}
}

// noEncryption: what was never written of an encrypted image would be read as noise.
func (s *suite) noEncryption(t *testing.T, elsewhere int64) {
	secret := ceph.ImageSpec{Size: mib, DataPool: s.dataPool, Passphrase: "correct horse"}
	coded := ceph.ImageRef{PoolID: s.poolID, Name: "secret"}
	requireKind(t, ceph.Invalid, s.conn.CreateImage(s.ctx, coded, secret))
	source := ceph.ImageRef{PoolID: elsewhere, Name: "secret-source"}
	require.NoError(t, s.conn.CreateImage(s.ctx, source, ceph.ImageSpec{Size: mib, Passphrase: secret.Passphrase}))
	snap := s.snapshot(t, source, "one")
	requireKind(t, ceph.Invalid, s.conn.CloneImage(s.ctx, snap.Ref, coded, secret))
	secret.Passphrase = ""
	requireKind(t, ceph.Invalid, s.conn.CloneImage(s.ctx, snap.Ref, coded, secret))
	_, err := s.conn.ImageInfo(s.ctx, coded)
	requireKind(t, ceph.NotFound, err)
}

func (s *suite) codedImages(t *testing.T) {
	w := s.write(t, 8*mib)
	require.ElementsMatch(t, append([]string{"data-pool"}, ceph.DefaultFeatures...), s.info(t, w.ref).Features)
	before := w.change(t, 20)
	snap := s.snapshot(t, w.ref, "one")
	after := w.change(t, 20)
	w.close(t)
	clone := s.clone(t, snap, "pvc-"+uuid.NewString())
	s.requireHolds(t, w.ref, ceph.OpenOptions{}, after)
	s.requireHolds(t, clone, ceph.OpenOptions{}, before)
	require.Contains(t, s.info(t, clone).Features, "data-pool")
	names, err := s.conn.PoolImages(s.ctx, "contract-coded")
	require.NoError(t, err)
	require.ElementsMatch(t, []string{w.ref.Name, clone.Name}, names)
	require.NoError(t, s.conn.GrowImage(s.ctx, clone, 16*mib))
	require.NoError(t, s.conn.RemoveSnapshot(s.ctx, snap.Ref))
	require.NoError(t, s.conn.HideImage(s.ctx, w.ref))
	hidden := ceph.ImageRef{PoolID: s.poolID, Name: ceph.HiddenPrefix + snap.Ref.ImageID}
	requireKind(t, ceph.Busy, s.conn.RemoveImage(s.ctx, hidden))
	require.NoError(t, s.conn.RemoveImage(s.ctx, clone))
	require.NoError(t, s.conn.RemoveImage(s.ctx, hidden))
	names, err = s.conn.PoolImages(s.ctx, "contract-coded")
	require.NoError(t, err)
	require.Empty(t, names)
	absent := ceph.ImageSpec{Size: mib, DataPool: "contract-absent"}
	requireKind(t, ceph.NotFound, s.conn.CreateImage(s.ctx, w.ref, absent))
}
