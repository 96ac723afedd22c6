// Package ceph runs csi-sanity against a real Ceph, with the real data path:
// librbd, FUSE, loop devices, mkfs and mounts. It needs root and Ceph: run it
// inside the build root.
package ceph

import (
	"context"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach/fuse"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
	"github.com/cairn-storage/cairn/tests/sanity"
)

const pool = "sanity"

// TestCeph runs the suite with filesystems, and in a process of its own with raw
// block volumes, against one cluster.
func TestCeph(t *testing.T) {
	credentials := cluster(t)
	preparePool(t, credentials)
	t.Run(sanity.AccessType(), func(t *testing.T) { suite(t, credentials) })
	if sanity.AccessType() == "block" {
		return
	}
	t.Run("block", func(t *testing.T) {
		cmd := exec.CommandContext(t.Context(), os.Args[0], "-test.run=^TestCeph$")
		cmd.Env = append(sanity.Again("block"), "CAIRN_TEST_CEPH="+save(t, credentials))
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		t.Log(strings.Join(lines[max(0, len(lines)-4):], "\n"))
	})
}

func suite(t *testing.T, credentials ceph.Credentials) {
	dir := t.TempDir()
	attacher := &fuse.Attacher{Dir: filepath.Join(dir, "attach"), Connector: rados.Connector{}}
	require.NoError(t, attacher.Clean())
	socket := filepath.Join(dir, "attach.sock")
	ctx, cancel := context.WithCancel(t.Context())
	listener, err := server.Listen(ctx, socket)
	require.NoError(t, err)
	served := serve(ctx, listener, attacher)
	sanity.Run(t, sanity.Driver{
		Connector: rados.Connector{}, Credentials: credentials, Pool: pool,
		Attacher: remote.NewClient(socket), Host: host.NewLinux(),
		VolumeSize: 1 << 30, AccessType: sanity.AccessType(),
	})
	cancel()
	require.NoError(t, <-served)
}

func serve(ctx context.Context, listener net.Listener, attacher *fuse.Attacher) chan error {
	served := make(chan error, 1)
	go func() { served <- web.ServeOn(ctx, listener, remote.Handler(attacher)) }()
	return served
}

func preparePool(t *testing.T, credentials ceph.Credentials) {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	conn, err := rados.Connector{}.Connect(ctx, credentials, ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()
	require.NoError(t, conn.EnsurePool(ctx, ceph.PoolSpec{Name: pool, Size: 1, FailureDomain: "osd", Application: "rbd"}))
}

// cluster returns the cluster of the directory in CAIRN_TEST_CEPH (its files
// fsid, mon_host and admin.key), or one that all tests share.
func cluster(t *testing.T) ceph.Credentials {
	if dir := os.Getenv("CAIRN_TEST_CEPH"); dir != "" {
		return load(t, dir)
	}
	c, err := shared()
	require.NoError(t, err)
	return c.Credentials()
}

var (
	running    *localceph.Cluster
	runningDir string
	shared     = sync.OnceValues(start)
)

func start() (*localceph.Cluster, error) {
	if _, err := exec.LookPath("ceph-osd"); err != nil {
		return nil, fmt.Errorf("Ceph's daemons are not on PATH: run this test inside the build root (make test): %w", err)
	}
	var err error
	if runningDir, err = os.MkdirTemp("", "cairn-sanity-*"); err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(context.Background(), time.Minute)
	defer cancel()
	running, err = localceph.Start(ctx, runningDir, localceph.Options{})
	return running, err
}

func load(t *testing.T, dir string) ceph.Credentials {
	read := func(name string) string {
		raw, err := os.ReadFile(filepath.Join(dir, name))
		require.NoError(t, err)
		return strings.TrimSpace(string(raw))
	}
	return ceph.Credentials{FSID: read("fsid"), MonHost: read("mon_host"), User: "admin", Key: ceph.Key(read("admin.key"))}
}

func save(t *testing.T, credentials ceph.Credentials) string {
	dir := t.TempDir()
	for name, text := range map[string]string{"fsid": credentials.FSID, "mon_host": credentials.MonHost, "admin.key": credentials.Key.Reveal()} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, name), []byte(text), 0o600))
	}
	return dir
}
