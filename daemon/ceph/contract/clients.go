package contract

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// oldClients asks for clients of the messenger's version 1: this one speaks version 2.
func (s *suite) oldClients(t *testing.T) {
	clients, err := s.conn.OldClients(s.ctx)
	require.NoError(t, err)
	require.Empty(t, clients)
}
