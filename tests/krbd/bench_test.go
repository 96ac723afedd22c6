package krbd

import (
	"context"
	"encoding/json"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sync/errgroup"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/controlplane"
	"github.com/cairn-storage/cairn/tests/krbd/vm"
	"github.com/cairn-storage/cairn/tests/localceph"
)

const (
	pool      = "krbd"
	namespace = "cairn-system"
	nodeName  = "node-1"
)

// The network of the guest; everything else is at the near end of it.
var (
	near  = netip.MustParsePrefix("10.77.0.1/24")
	guest = netip.MustParsePrefix("10.77.0.2/24")
)

// bench is all that the tests run on: Ceph, an API server, the controller in this
// process, and the guest with the node plugin.
type bench struct {
	*testing.T
	machine    *vm.Machine
	cluster    *localceph.Cluster
	conn       ceph.Conn
	controller *controller.Server
	secrets    secrets
	plugin     *plugin
	// user and key that the node enters the cluster with.
	user, key string
}

func newBench(t *testing.T) *bench {
	b := &bench{T: t}
	share := t.TempDir()
	build(t, share)
	roots := vm.Options{Emulator: root(t, "vm"), Root: root(t, "ceph"), Share: share}
	tap, err := vm.OpenTap("cairn-tap0", near)
	require.NoError(t, err)
	t.Cleanup(func() { _ = tap.Close() })
	ctx, cancel := context.WithTimeout(t.Context(), 5*time.Minute)
	defer cancel()
	var group errgroup.Group
	group.Go(func() (err error) { b.machine, err = startMachine(ctx, t, roots, tap); return err })
	group.Go(func() (err error) { b.cluster, err = startCeph(ctx, t); return err })
	b.secrets = newSecrets(t, share)
	require.NoError(t, group.Wait())
	b.connect(ctx)
	b.plugin = &plugin{}
	return b
}

// build makes the programs that the guest runs.
func build(t *testing.T, dir string) {
	for program, c := range map[string]struct{ source, cgo string }{
		"cairn-csi":    {"cmd/cairn-csi", "CGO_ENABLED=1"},
		"cairn-keeper": {"cmd/cairn-keeper", "CGO_ENABLED=0"},
		"cairn-daemon": {"cmd/cairn-daemon", "CGO_ENABLED=0"},
		"verifier":     {"tests/verifier/cmd/verifier", "CGO_ENABLED=0"},
		"guest":        {"tests/krbd/vm/guest", "CGO_ENABLED=0"},
	} {
		cmd := exec.CommandContext(t.Context(), "go", "build", "-trimpath", "-ldflags", "-s -w", "-o", filepath.Join(dir, program), "./"+c.source)
		cmd.Dir, cmd.Env = controlplane.Path(""), append(os.Environ(), c.cgo)
		out, err := cmd.CombinedOutput()
		require.NoError(t, err, string(out))
	}
}

// root returns the path of one of the cached root filesystems.
func root(t *testing.T, kind string) string {
	out, err := exec.CommandContext(t.Context(), controlplane.Path("images/root"), kind, "--path").Output()
	require.NoError(t, err)
	path := string(out[:len(out)-1])
	require.DirExists(t, path, "run: images/root %s", kind)
	return path
}

func startMachine(ctx context.Context, t *testing.T, options vm.Options, tap *os.File) (*vm.Machine, error) {
	options.Agent, options.Dir = filepath.Join(options.Share, "guest"), t.TempDir()
	options.Tap, options.Guest, options.MiB = tap, guest, 1024
	machine, err := vm.Start(ctx, options)
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() {
		if t.Failed() {
			t.Log(machine.Console())
		}
		machine.Stop()
	})
	return machine, nil
}

func startCeph(ctx context.Context, t *testing.T) (*localceph.Cluster, error) {
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{Address: near.Addr(), LegacyKeys: true})
	if err != nil {
		return nil, err
	}
	t.Cleanup(func() { _ = cluster.Stop() })
	return cluster, nil
}

// connect makes the pool, and the controller that works in it.
func (b *bench) connect(ctx context.Context) {
	credentials := b.cluster.Credentials()
	conn, err := rados.Connector{}.Connect(ctx, credentials, connections.Timeouts)
	require.NoError(b, err)
	b.Cleanup(func() { _ = conn.Close() })
	require.NoError(b, conn.EnsurePool(ctx, ceph.PoolSpec{Name: pool, Size: 1, FailureDomain: "osd", Application: "rbd"}))
	source := connections.Static{credentials.FSID: credentials}
	b.conn = conn
	b.controller = &controller.Server{Clusters: connections.New(source, rados.Connector{}, connections.Timeouts), Nodes: everyNode{}}
}

type everyNode struct{}

func (everyNode) Known(context.Context, string) (bool, error) { return true, nil }

// ceph runs Ceph's command line.
func (b *bench) ceph(args ...string) string {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "ceph", append([]string{"-c", b.cluster.ConfFile()}, args...)...).Output()
	require.NoError(b, err, fmt.Sprint(args))
	return string(out)
}

// on returns the bench for a test below the one that made it.
func (b *bench) on(t *testing.T) *bench {
	c := *b
	c.T = t
	return &c
}

// bytesUsed is how much of an image was ever written and not given back.
func bytesUsed(b *bench, image string) (sum int64) {
	b.Helper()
	out, err := exec.CommandContext(b.Context(), "rbd", "-c", b.cluster.ConfFile(), "diff", "--format", "json", pool+"/"+image).Output()
	require.NoError(b, err)
	var extents []struct{ Length int64 }
	require.NoError(b, json.Unmarshal(out, &extents))
	for _, e := range extents {
		sum += e.Length
	}
	return sum
}
