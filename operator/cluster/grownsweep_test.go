package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The disk of an OSD grows to the double, and its weight follows.
func beginGrowth(t *testing.T) (*site, func()) {
	s := fourOSDs(t)
	s.look()
	id, size := s.known().ID, s.known().BytesTotal
	return s, func() {
		s.Grow("node1", "disk2")
		s.looksUntil("its weight follows", func() bool { return s.known().Weight == float64(2*size)/(1<<40) })
		s.looks(3 + s.lag)
		s.converge()
		require.Equal(t, id, s.known().ID)
	}
}

func TestAWeightThatAPersonChoseStays(t *testing.T) {
	s, _ := beginGrowth(t)
	id := s.known().ID
	s.Grow("node1", "disk2")
	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.SetOSDWeight(t.Context(), id, 0.003))
	s.looks(5)
	require.InDelta(t, 0.003, s.known().Weight, 0)
	require.NotContains(t, s.Writes(), "ceph SetOSDWeight")
}

func TestAGrownDiskIsForeseen(t *testing.T) {
	s := fourOSDs(t)
	s.look()
	s.Grow("node1", "disk2")
	s.Step()
	s.happensAsForeseen(func(*v1alpha1.StorageCluster) {})
	require.Contains(t, s.Writes(), "ceph SetOSDWeight")
}
