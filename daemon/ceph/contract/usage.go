package contract

import (
	"math/rand"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func (s *suite) random() *rand.Rand { return rand.New(rand.NewSource(7)) }

func (s *suite) usage(t *testing.T) {
	pools, err := s.conn.ImagePools(s.ctx)
	require.NoError(t, err)
	require.Contains(t, pools, ceph.PoolName{ID: s.poolID, Name: poolName})
	_, err = s.conn.PoolUsage(s.ctx, s.poolID+1000)
	requireKind(t, ceph.NotFound, err)
	usage, err := s.conn.PoolUsage(s.ctx, s.poolID)
	require.NoError(t, err)
	require.Equal(t, poolName, usage.Name)
	require.Zero(t, usage.Quota)
	require.False(t, usage.Full)
	require.Positive(t, usage.Available)

	limited := spec(poolName)
	limited.QuotaBytes = 1 << 30
	require.NoError(t, s.conn.EnsurePool(s.ctx, limited))
	usage, err = s.conn.PoolUsage(s.ctx, s.poolID)
	require.NoError(t, err)
	require.EqualValues(t, 1<<30, usage.Quota)
	require.LessOrEqual(t, usage.Available, int64(1<<30))
	require.NoError(t, s.conn.EnsurePool(s.ctx, spec(poolName)))
}

func (s *suite) fencing(t *testing.T) {
	ref := s.image(t, mib)
	victim := connect(s.ctx, t, s.connector, s.cred)
	opened, err := victim.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	_, err = opened.WriteAt(make([]byte, 4096), 0)
	require.NoError(t, err)
	require.NoError(t, opened.Flush())
	for range 2 {
		require.NoError(t, s.conn.Blocklist(s.ctx, victim.ClientAddrs(), time.Minute))
	}
	taken, err := s.conn.OpenImage(s.ctx, ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err, "what the fenced client owned is free")
	_, err = opened.WriteAt([]byte("never seen"), 0)
	if err == nil {
		err = opened.Flush()
	}
	requireKind(t, ceph.Fenced, err)
	data := make([]byte, 10)
	_, err = taken.ReadAt(data, 0)
	require.NoError(t, err)
	require.Equal(t, make([]byte, 10), data)
	require.NoError(t, taken.Close())
	_ = opened.Close()
}
