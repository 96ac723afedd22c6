// Package delta holds what the driver says of changed blocks against what was
// written: every byte that differs between two snapshots is in their delta, and
// nothing is in it that was not touched. It needs Ceph: run it inside the build root.
package delta

import (
	"context"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

const (
	kib  = int64(1) << 10
	mib  = int64(1) << 20
	pool = "delta"
	// object is the size of the objects that an image is cut into.
	object = 4 * mib
)

// bed is the driver behind its socket, on a cluster that is the test's own.
type bed struct {
	name     string
	conn     ceph.Conn
	fsid     string
	driver   csi.ControllerClient
	metadata csi.SnapshotMetadataClient
	// exact is the unit in bytes that the cluster tells changes by.
	exact int64
	// trim is the unit in bytes that a discard frees; what is left at its edges
	// stays as it was.
	trim int64
}

// onCeph is a bed on a real Ceph, whose diffs are exact to the byte: bitmaps of
// sectors stand for that here.
func onCeph(t *testing.T) *bed {
	_, err := exec.LookPath("ceph-osd")
	require.NoError(t, err, "Ceph's daemons are not on PATH: run this test inside the build root (make delta)")
	ctx, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	dir, err := os.MkdirTemp("", "cairn-delta-*")
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, os.RemoveAll(dir)) })
	cluster, err := localceph.Start(ctx, dir, localceph.Options{OSDs: 1, OSDBytes: 8 << 30})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	b := &bed{name: "Ceph", exact: sector, trim: 64 * kib}
	b.start(t, rados.Connector{}, cluster.Credentials())
	return b
}

// onModel is a bed on the modelled cluster.
func onModel(t *testing.T) *bed {
	credentials := ceph.Credentials{FSID: "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f", MonHost: "m", User: "u", Key: "k"}
	b := &bed{name: "model", exact: block, trim: 1}
	b.start(t, model.New(credentials.FSID), credentials)
	return b
}

func (b *bed) start(t *testing.T, connector ceph.Connector, credentials ceph.Credentials) {
	ctx, cancel := context.WithCancel(context.Background())
	conn, err := connector.Connect(ctx, credentials, connections.Timeouts)
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(ctx, ceph.PoolSpec{Name: pool, Size: 1, FailureDomain: "osd", Application: "rbd"}))

	clusters := connections.New(connections.Static{credentials.FSID: credentials}, connector, connections.Timeouts)
	s, service := server.New(server.Options{}), &controller.Server{Clusters: clusters}
	csi.RegisterControllerServer(s, service)
	csi.RegisterSnapshotMetadataServer(s, service)
	socket := filepath.Join(t.TempDir(), "csi.sock")
	listener, err := server.Listen(ctx, socket)
	require.NoError(t, err)
	served := make(chan error, 1)
	go func() { served <- server.ServeOn(ctx, s, listener) }()
	channel, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		require.NoError(t, channel.Close())
		cancel()
		require.NoError(t, <-served)
		require.NoError(t, clusters.Close())
		require.NoError(t, conn.Close())
	})
	b.conn, b.fsid = conn, credentials.FSID
	b.driver, b.metadata = csi.NewControllerClient(channel), csi.NewSnapshotMetadataClient(channel)
}
