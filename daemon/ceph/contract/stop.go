package contract

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// stopping asks which OSDs may be down, once there is a pool.
func (s *suite) stopping(t *testing.T) {
	var up []int
	host := ""
	for _, osd := range s.allOSDs(t) {
		if osd.Up {
			up, host = append(up, osd.ID), osd.Host
		}
	}
	require.NotEmpty(t, up)
	s.eventually(t, nil, "", "no OSD at all may be stopped")
	s.eventually(t, up[:1], "", "one of them may be stopped")
	why, err := s.conn.NotOKToStop(s.ctx, up)
	require.NoError(t, err)
	require.NotEmpty(t, why, "with every OSD down no PG serves")

	for _, id := range up {
		require.Eventually(t, func() bool {
			why, err := s.conn.Unreported(s.ctx, id)
			require.NoError(t, err)
			return why == ""
		}, time.Minute, 100*time.Millisecond, "the PGs of osd.%d tell that they are clean", id)
	}
	_, err = s.conn.Unreported(s.ctx, 999)
	requireKind(t, ceph.NotFound, err)

	requireKind(t, ceph.NotFound, s.conn.SetNoOut(s.ctx, "no-such-host", true))
	requireKind(t, ceph.NotFound, s.conn.SetNoOut(s.ctx, "osd.0", true))
	for _, on := range []bool{true, false} {
		for range 2 {
			require.NoError(t, s.conn.SetNoOut(s.ctx, host, on))
		}
		for _, osd := range s.allOSDs(t) {
			require.Equal(t, on && osd.Host == host, osd.NoOut, "osd.%d", osd.ID)
		}
	}
}

func (s *suite) allOSDs(t *testing.T) []ceph.OSD {
	osds, err := s.conn.OSDs(s.ctx)
	require.NoError(t, err)
	return osds
}

// eventually waits until Ceph, which counts PGs every few seconds, says so.
func (s *suite) eventually(t *testing.T, ids []int, want, what string) {
	require.Eventually(t, func() bool {
		why, err := s.conn.NotOKToStop(s.ctx, ids)
		require.NoError(t, err)
		return why == want
	}, time.Minute, 100*time.Millisecond, what)
}
