package contract

import (
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// placement tells where each PG of a pool is: once, and on as many OSDs as the pool has replicas.
func (s *suite) placement(t *testing.T) {
	osds, err := s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	pool := s.find(t, poolName)
	require.Eventually(t, func() bool {
		p, err := s.conn.Placement(s.ctx)
		require.NoError(t, err)
		for _, osd := range osds {
			require.Equal(t, osd.Up, p.Up[osd.ID])
			require.Equal(t, osd.In, p.In[osd.ID] > 0)
		}
		placed := p.Pools[pool.ID]
		require.Equal(t, poolName, placed.Name)
		require.Equal(t, pool.Spec.Size, placed.Size)
		require.True(t, placed.Replicated)
		of := slices.DeleteFunc(p.PGs, func(pg ceph.PG) bool { return pg.Pool != pool.ID || len(pg.OSDs) != placed.Size })
		return len(of) > 0 && len(of) >= placed.Targets
	}, time.Minute, 100*time.Millisecond, "every PG has its OSDs")
}
