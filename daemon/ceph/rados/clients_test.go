package rados

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// Clients that speak version 1 of the messenger are named, and daemons are not.
func TestOldClientsAreNamed(t *testing.T) {
	cluster, err := localceph.Start(t.Context(), t.TempDir(), localceph.Options{Mons: 3, OSDs: 1, V1: true})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	connected, err := Connector{}.Connect(t.Context(), cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, connected.Close()) })
	clients, err := connected.OldClients(t.Context())
	require.NoError(t, err)
	require.Equal(t, []ceph.Client{{User: "client.admin", Address: "127.0.0.1"}}, clients)
}
