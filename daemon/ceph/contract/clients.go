package contract

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
)

// clientIDs asks the mons which IDs they give.
func (s *suite) clientIDs(t *testing.T) {
	first, err := s.conn.ClientIDs(s.ctx)
	require.NoError(t, err)
	status, err := s.conn.Status(s.ctx)
	require.NoError(t, err)
	require.ElementsMatch(t, status.Quorum, slices.Collect(maps.Keys(first)))
	again, err := s.conn.ClientIDs(s.ctx)
	require.NoError(t, err)
	for mon, id := range first {
		require.NotZero(t, id)
		require.Greater(t, again[mon], id, "each gets another")
	}
}

// oldClients asks for clients of the messenger's version 1: this one speaks version 2.
func (s *suite) oldClients(t *testing.T) {
	clients, err := s.conn.OldClients(s.ctx)
	require.NoError(t, err)
	require.Empty(t, clients)
}
