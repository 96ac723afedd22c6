package contract

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func (s *suite) releases(t *testing.T) {
	status, err := s.conn.Status(s.ctx)
	require.NoError(t, err)
	osds, err := s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	up := slices.DeleteFunc(osds, func(osd ceph.OSD) bool { return !osd.Up })
	seen, err := s.conn.Releases(s.ctx)
	require.NoError(t, err)
	require.Len(t, status.Versions, 1, "all daemons of the suite's cluster are of one version")
	for version := range status.Versions {
		require.Equal(t, map[string]map[string]int{
			"mon": {version: len(status.Mons)}, "mgr": {version: 1 + status.StandbyMgrs}, "osd": {version: len(up)},
		}, seen.Daemons)
	}
	require.Equal(t, seen.Mons, seen.OSDs)
	require.GreaterOrEqual(t, ceph.ReleaseNumber(seen.OSDs), 18)

	for range 2 {
		require.NoError(t, s.conn.RequireOSDRelease(s.ctx, seen.OSDs))
	}
	requireKind(t, ceph.Forbidden, s.conn.RequireOSDRelease(s.ctx, "squid"))
	again, err := s.conn.Releases(s.ctx)
	require.NoError(t, err)
	require.Equal(t, seen, again)
}
