package rados_test

import (
	"context"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph/contract"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// TestContract runs the contract against a real Ceph on loopback.
func TestContract(t *testing.T) {
	if _, err := exec.LookPath("ceph-osd"); err != nil {
		t.Fatal("Ceph's daemons are not on PATH: run this test inside the build root (make test)")
	}
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	contract.Run(t, rados.Connector{}, cluster.Credentials())
}
