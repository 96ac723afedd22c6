// Package contract is what every implementation of daemon/ceph must do. The
// model and the real cluster run the same suite, so that a test against the
// model says something about Ceph.
package contract

import (
	"bytes"
	"context"
	"fmt"
	"math"
	"math/rand"
	"slices"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const mib = 1 << 20

// Run checks a cluster through its connector. The cluster needs one mon in
// quorum and enough OSDs for a pool of size 2 over failure domain osd.
func Run(t *testing.T, connector ceph.Connector, cred ceph.Credentials) {
	suite := newSuite(t, connector, cred)
	t.Run("connecting", suite.connecting)
	t.Run("status", suite.status)
	t.Run("pools", suite.pools)
	t.Run("users", suite.users)
	t.Run("keys", suite.keys)
	t.Run("OSDs", suite.osds)
	t.Run("releases", suite.releases)
	t.Run("options", suite.options)
	t.Run("old clients", suite.oldClients)
	t.Run("client IDs", suite.clientIDs)
	suite.makePool(t)
	t.Run("placement", suite.placement)
	t.Run("stopping OSDs", suite.stopping)
	t.Run("images are created once", suite.create)
	t.Run("image metadata", suite.metadata)
	t.Run("images grow and never shrink", suite.grow)
	t.Run("images are removed", suite.remove)
	t.Run("bytes written are read back", suite.readBack)
	t.Run("an exclusive image has one writer", suite.exclusive)
	t.Run("images are listed", suite.list)
	t.Run("images are hidden", suite.hide)
	t.Run("limits", suite.limits)
	t.Run("snapshots", suite.snapshots)
	t.Run("snapshots hold what was", suite.snapshotData)
	t.Run("clones", suite.clones)
	t.Run("clones are flattened", suite.flatten)
	t.Run("diffs", suite.diffs)
	t.Run("diffs of clones", suite.diffsOfClones)
	t.Run("group snapshots", suite.groups)
	t.Run("group snapshots go at once", suite.groupsAtOnce)
	t.Run("encryption", suite.encryption)
	t.Run("usage", suite.usage)
	t.Run("a fenced client cannot write", suite.fencing)
	t.Run("ended contexts", suite.contexts)
}

func newSuite(t *testing.T, connector ceph.Connector, cred ceph.Credentials) *suite {
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	t.Cleanup(cancel)
	return &suite{ctx: ctx, connector: connector, cred: cred, conn: connect(ctx, t, connector, cred)}
}

type suite struct {
	ctx       context.Context
	connector ceph.Connector
	cred      ceph.Credentials
	conn      ceph.Conn
	poolID    int64
	dataPool  string // of the images that are made; empty for the pool itself
}

const poolName = "contract"

func connect(ctx context.Context, t *testing.T, connector ceph.Connector, cred ceph.Credentials) ceph.Conn {
	conn, err := connector.Connect(ctx, cred, ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	return conn
}

func requireKind(t *testing.T, want ceph.Kind, err error) {
	t.Helper()
	require.Error(t, err)
	require.Equal(t, want, ceph.KindOf(err), "%v", err)
}

func (s *suite) connecting(t *testing.T) {
	require.NotEmpty(t, s.conn.ClientAddrs())
	second := connect(s.ctx, t, s.connector, s.cred)
	require.NotEqual(t, s.conn.ClientAddrs(), second.ClientAddrs(), "each client can be fenced alone")
	other := s.cred
	other.FSID = uuid.NewString()
	_, err := s.connector.Connect(s.ctx, other, ceph.ConnectOptions{MonTimeout: 5 * time.Second})
	requireKind(t, ceph.Invalid, err)
}

func (s *suite) status(t *testing.T) {
	status, err := s.conn.Status(s.ctx)
	require.NoError(t, err)
	require.Equal(t, s.cred.FSID, status.FSID)
	require.NotEmpty(t, status.Quorum)
	require.Subset(t, status.Mons, status.Quorum)
	require.NotEmpty(t, status.ActiveMgr)
	require.Contains(t, []string{"HEALTH_OK", "HEALTH_WARN", "HEALTH_ERR"}, status.Health)
	require.NotEmpty(t, status.Versions)
}

func spec(name string) ceph.PoolSpec {
	return ceph.PoolSpec{Name: name, Size: 2, FailureDomain: "osd", Application: "rbd"}
}

func (s *suite) find(t *testing.T, name string) *ceph.Pool {
	pools, err := s.conn.Pools(s.ctx)
	require.NoError(t, err)
	for _, pool := range pools {
		if pool.Spec.Name == name {
			return &pool
		}
	}
	return nil
}

// poolsAreCounted waits until the status counts all pools: it follows them with a delay.
func (s *suite) poolsAreCounted(t *testing.T) {
	require.Eventually(t, func() bool {
		status, err := s.conn.Status(s.ctx)
		require.NoError(t, err)
		pools, err := s.conn.Pools(s.ctx)
		require.NoError(t, err)
		return status.Pools >= len(pools)
	}, time.Minute, 100*time.Millisecond, "the status does not count all pools")
}

func (s *suite) pools(t *testing.T) {
	want := spec("contract-pool")
	_, err := s.conn.PoolID(s.ctx, want.Name)
	requireKind(t, ceph.NotFound, err)
	requireKind(t, ceph.NotFound, s.conn.RemovePool(s.ctx, want.Name))
	for range 2 {
		require.NoError(t, s.conn.EnsurePool(s.ctx, want))
		require.Equal(t, want, s.find(t, want.Name).Spec)
	}
	s.poolsAreCounted(t)
	first, err := s.conn.PoolID(s.ctx, want.Name)
	require.NoError(t, err)
	osds, err := s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	for _, change := range []func(){
		func() { want.QuotaBytes, want.Size = 64*mib, 3 },
		func() { want.Size = 2 },
		func() { want.Compression = "aggressive" },
		func() { want.Compression = "" },
		func() { want.FailureDomain = "host" },
		func() { want.FailureDomain, want.DeviceClass = "osd", osds[0].Class },
	} {
		change()
		require.NoError(t, s.conn.EnsurePool(s.ctx, want))
		now := s.find(t, want.Name)
		require.Equal(t, want, now.Spec)
		require.Equal(t, want.Size-want.Size/2, now.MinSize, "one replica of three may be missing, and one of two")
		id, err := s.conn.PoolID(s.ctx, want.Name)
		require.NoError(t, err)
		require.Equal(t, first, id, "it is changed in place")
	}
	require.NoError(t, s.conn.RemovePool(s.ctx, want.Name))
	require.Nil(t, s.find(t, want.Name))
	require.NoError(t, s.conn.EnsurePool(s.ctx, want))
	second, err := s.conn.PoolID(s.ctx, want.Name)
	require.NoError(t, err)
	require.NotEqual(t, first, second, "a pool made anew has a new ID")
	require.NoError(t, s.conn.RemovePool(s.ctx, want.Name))
}

func (s *suite) users(t *testing.T) {
	const entity = "client.contract"
	caps := ceph.Caps{"mon": "profile rbd", "osd": "profile rbd pool=x"}
	key, err := s.conn.EnsureUser(s.ctx, entity, caps)
	require.NoError(t, err)
	require.NotEmpty(t, key.Reveal())
	caps["osd"] = "profile rbd pool=y"
	again, err := s.conn.EnsureUser(s.ctx, entity, caps)
	require.NoError(t, err)
	require.Equal(t, key.Reveal(), again.Reveal(), "changed caps keep the key")
	require.NoError(t, s.conn.RemoveUser(s.ctx, entity))
	require.NoError(t, s.conn.RemoveUser(s.ctx, entity))
	fresh, err := s.conn.EnsureUser(s.ctx, entity, caps)
	require.NoError(t, err)
	require.NotEqual(t, key.Reveal(), fresh.Reveal())
	require.NoError(t, s.conn.RemoveUser(s.ctx, entity))
}

func (s *suite) osds(t *testing.T) {
	key, err := ceph.NewKey(time.Now())
	require.NoError(t, err)
	id := uuid.NewString()
	first, err := s.conn.NewOSD(s.ctx, id, key, "ssd")
	require.NoError(t, err)
	again, err := s.conn.NewOSD(s.ctx, id, key, "ssd")
	require.NoError(t, err)
	require.Equal(t, first, again)
	other, err := ceph.NewKey(time.Now())
	require.NoError(t, err)
	_, err = s.conn.NewOSD(s.ctx, id, other, "ssd")
	requireKind(t, ceph.Exists, err)
	osds, err := s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	at := slices.IndexFunc(osds, func(osd ceph.OSD) bool { return osd.ID == first })
	require.GreaterOrEqual(t, at, 0, "osd.%d is not among %v", first, osds)
	require.Equal(t, id, osds[at].UUID)
	require.False(t, osds[at].Up)
	for _, osd := range osds {
		require.Equal(t, osd.Up, !osd.New, "osd.%d", osd.ID)
	}
	require.Eventually(t, func() bool {
		return !slices.ContainsFunc(s.knownOSDs(t), func(osd ceph.OSD) bool { return osd.Up && (osd.BytesTotal == 0 || osd.BytesUsed > osd.BytesTotal) })
	}, time.Minute, 100*time.Millisecond, "OSDs that run tell the size of their devices")

	for _, osd := range osds {
		if osd.Up {
			requireKind(t, ceph.Busy, s.conn.PurgeOSD(s.ctx, osd.ID))
		}
	}
	requireKind(t, ceph.NotFound, s.conn.SetOSDWeight(s.ctx, 4711, 1))
	for _, osd := range osds {
		if osd.Up {
			for _, weight := range []float64{osd.Weight * 2, osd.Weight} {
				require.NoError(t, s.conn.SetOSDWeight(s.ctx, osd.ID, weight))
				require.True(t, slices.ContainsFunc(s.knownOSDs(t), func(known ceph.OSD) bool { return known.ID == osd.ID && math.Abs(known.Weight-weight) < 1e-4 }))
			}
		}
	}
	require.NoError(t, s.conn.SetOSDOut(s.ctx, first, true))
	require.Eventually(t, func() bool {
		why, err := s.conn.StillNeeded(s.ctx, first)
		require.NoError(t, err)
		return why == ""
	}, time.Minute, 100*time.Millisecond, "an OSD that never ran is not needed")
	for range 2 {
		require.NoError(t, s.conn.PurgeOSD(s.ctx, first))
	}
	osds, err = s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	require.False(t, slices.ContainsFunc(osds, func(osd ceph.OSD) bool { return osd.UUID == id }), "%v", osds)
	why, err := s.conn.StillNeeded(s.ctx, first)
	require.NoError(t, err)
	require.Empty(t, why)
	next, err := s.conn.NewOSD(s.ctx, id, other, "ssd")
	require.NoError(t, err, "its UUID is free, for another key")
	s.renewOSD(t, next, id, key)
}

// renewOSD gives the ID of an OSD that never ran to another, and purges that.
func (s *suite) renewOSD(t *testing.T, id int, old string, key ceph.Key) {
	renewed := uuid.NewString()
	requireKind(t, ceph.Invalid, s.conn.RenewOSD(s.ctx, id, renewed, key))
	requireKind(t, ceph.Exists, s.conn.DestroyOSD(s.ctx, id, renewed, false))
	for _, osd := range s.knownOSDs(t) {
		if osd.Up {
			requireKind(t, ceph.Busy, s.conn.DestroyOSD(s.ctx, osd.ID, osd.UUID, false))
			requireKind(t, ceph.Busy, s.conn.DestroyOSD(s.ctx, osd.ID, osd.UUID, true))
		}
	}
	for _, lost := range []bool{true, false} {
		require.NoError(t, s.conn.DestroyOSD(s.ctx, id, old, lost), "also a second time")
	}
	at := slices.IndexFunc(s.knownOSDs(t), func(osd ceph.OSD) bool { return osd.ID == id && osd.Destroyed && osd.UUID != old })
	require.GreaterOrEqual(t, at, 0, "osd.%d is not destroyed in %v", id, s.knownOSDs(t))
	for range 2 {
		require.NoError(t, s.conn.RenewOSD(s.ctx, id, renewed, key))
	}
	other, err := ceph.NewKey(time.Now())
	require.NoError(t, err)
	requireKind(t, ceph.Exists, s.conn.RenewOSD(s.ctx, id, renewed, other))
	at = slices.IndexFunc(s.knownOSDs(t), func(osd ceph.OSD) bool { return osd.ID == id && !osd.Destroyed && osd.New && osd.UUID == renewed })
	require.GreaterOrEqual(t, at, 0, "osd.%d is not %s in %v", id, renewed, s.knownOSDs(t))
	require.NoError(t, s.conn.SetOSDOut(s.ctx, id, true))
	require.NoError(t, s.conn.PurgeOSD(s.ctx, id))
}

func (s *suite) knownOSDs(t *testing.T) []ceph.OSD {
	osds, err := s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	return osds
}

func (s *suite) makePool(t *testing.T) {
	require.NoError(t, s.conn.EnsurePool(s.ctx, spec(poolName)))
	id, err := s.conn.PoolID(s.ctx, poolName)
	require.NoError(t, err)
	s.poolID = id
}

func (s *suite) image(t *testing.T, size int64) ceph.ImageRef {
	ref := ceph.ImageRef{PoolID: s.poolID, Name: "pvc-" + uuid.NewString()}
	require.NoError(t, s.conn.CreateImage(s.ctx, ref, ceph.ImageSpec{Size: size, DataPool: s.dataPool, Metadata: map[string]string{"cairn.storage/size": fmt.Sprint(size)}}))
	return ref
}

func (s *suite) create(t *testing.T) {
	ref := s.image(t, 8*mib)
	info, err := s.conn.ImageInfo(s.ctx, ref)
	require.NoError(t, err)
	require.EqualValues(t, 8*mib, info.Size)
	require.ElementsMatch(t, ceph.DefaultFeatures, info.Features)
	require.Equal(t, map[string]string{"cairn.storage/size": fmt.Sprint(8 * mib)}, info.Metadata)
	requireKind(t, ceph.Exists, s.conn.CreateImage(s.ctx, ref, ceph.ImageSpec{Size: 8 * mib}))
	missing := ref
	missing.PoolID += 1000
	requireKind(t, ceph.NotFound, s.conn.CreateImage(s.ctx, missing, ceph.ImageSpec{Size: mib}))
	before, err := s.conn.PoolImages(s.ctx, poolName)
	require.NoError(t, err)
	made := s.image(t, mib)
	after, err := s.conn.PoolImages(s.ctx, poolName)
	require.NoError(t, err)
	require.ElementsMatch(t, after, append(before, made.Name))
}

func (s *suite) metadata(t *testing.T) {
	ref := s.image(t, mib)
	require.NoError(t, s.conn.SetImageMetadata(s.ctx, ref, map[string]string{"a": "1", "b": "two words, and ünïcode"}))
	require.NoError(t, s.conn.SetImageMetadata(s.ctx, ref, map[string]string{"a": "2"}))
	info, err := s.conn.ImageInfo(s.ctx, ref)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"cairn.storage/size": fmt.Sprint(mib), "a": "2", "b": "two words, and ünïcode"}, info.Metadata)
	ref.Name = "absent"
	requireKind(t, ceph.NotFound, s.conn.SetImageMetadata(s.ctx, ref, map[string]string{"a": "1"}))
}

func (s *suite) grow(t *testing.T) {
	ref := s.image(t, 4*mib)
	for _, step := range []struct{ ask, want int64 }{{8 * mib, 8 * mib}, {8 * mib, 8 * mib}, {2 * mib, 8 * mib}} {
		require.NoError(t, s.conn.GrowImage(s.ctx, ref, step.ask))
		info, err := s.conn.ImageInfo(s.ctx, ref)
		require.NoError(t, err)
		require.Equal(t, step.want, info.Size)
	}
	ref.Name = "absent"
	requireKind(t, ceph.NotFound, s.conn.GrowImage(s.ctx, ref, mib))
}

func (s *suite) remove(t *testing.T) {
	ref := s.image(t, mib)
	opened, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{})
	require.NoError(t, err)
	info, err := s.conn.ImageInfo(s.ctx, ref)
	require.NoError(t, err)
	require.NotEmpty(t, info.Watchers)
	other := connect(s.ctx, t, s.connector, s.cred)
	requireKind(t, ceph.Busy, other.RemoveImage(s.ctx, ref))
	require.NoError(t, opened.Close())
	require.NoError(t, other.RemoveImage(s.ctx, ref))
	requireKind(t, ceph.NotFound, s.conn.RemoveImage(s.ctx, ref))
	_, err = s.conn.ImageInfo(s.ctx, ref)
	requireKind(t, ceph.NotFound, err)
	_, err = s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{})
	requireKind(t, ceph.NotFound, err)
}

func (s *suite) readBack(t *testing.T) {
	const size = 16 * mib
	ref := s.image(t, size)
	opened, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	mirror, random := make([]byte, size), rand.New(rand.NewSource(1))
	for range 200 {
		length := int64(512 * (1 + random.Intn(256)))
		offset := 512 * random.Int63n((size-length)/512)
		part := mirror[offset : offset+length]
		switch random.Intn(4) {
		case 0:
			clear(part)
			require.NoError(t, opened.WriteZeroes(offset, length))
		default:
			_, _ = random.Read(part)
			n, err := opened.WriteAt(part, offset)
			require.NoError(t, err)
			require.EqualValues(t, length, n)
		}
	}
	require.NoError(t, opened.Flush())
	require.NoError(t, opened.Discard(4*mib, 4*mib))
	clear(mirror[4*mib : 8*mib])
	require.NoError(t, opened.Close())
	reopened, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{ReadOnly: true})
	require.NoError(t, err)
	got := make([]byte, size)
	n, err := reopened.ReadAt(got, 0)
	require.NoError(t, err)
	require.Equal(t, size, n)
	require.True(t, bytes.Equal(mirror, got), "what was written is what is read")
	_, err = reopened.WriteAt(got[:512], 0)
	require.Error(t, err, "read-only")
	require.NoError(t, reopened.Close())
}

func (s *suite) exclusive(t *testing.T) {
	ref := s.image(t, mib)
	first, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	other := connect(s.ctx, t, s.connector, s.cred)
	_, err = other.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	requireKind(t, ceph.Busy, err)
	require.NoError(t, first.Close())
	second, err := other.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	require.NoError(t, second.Close())
}

func (s *suite) contexts(t *testing.T) {
	ended, cancel := context.WithCancel(s.ctx)
	cancel()
	_, err := s.conn.Status(ended)
	requireKind(t, ceph.Timeout, err)
	_, err = s.conn.ImageInfo(ended, ceph.ImageRef{PoolID: s.poolID, Name: "x"})
	requireKind(t, ceph.Timeout, err)
}
