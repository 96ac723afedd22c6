package rados_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/contract"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// TestContract runs the contract against a real Ceph on loopback.
func TestContract(t *testing.T) {
	contract.Run(t, rados.Connector{}, start(t).Credentials())
}

// start starts a real Ceph for a test.
func start(t *testing.T) *localceph.Cluster {
	if _, err := exec.LookPath("ceph-osd"); err != nil {
		t.Fatal("Ceph's daemons are not on PATH: run this test inside the build root (make test)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	return cluster
}

// connect opens a connection for a test, with a pool for images.
func connect(t *testing.T, cluster *localceph.Cluster) (conn ceph.Conn, poolID int64) {
	conn, err := rados.Connector{}.Connect(t.Context(), cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "test", Size: 2, FailureDomain: "osd", Application: "rbd"}))
	poolID, err = conn.PoolID(t.Context(), "test")
	require.NoError(t, err)
	return conn, poolID
}
