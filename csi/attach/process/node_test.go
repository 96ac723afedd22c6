package process

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// attachEnv makes this test's program an attach process; its value is the state
// directory.
const attachEnv = "CAIRN_TEST_ATTACH"

// run is where the node's systemd listens, if there is one.
func (d StateDir) run() string { return filepath.Join(string(d), "run") }

// What all tests share.
var (
	cluster       *localceph.Cluster // a real Ceph
	keeperProgram string             // cairn-keeper
)

func TestMain(m *testing.M) {
	if dir := os.Getenv(attachEnv); dir != "" {
		ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
		err := Attach(ctx, StateDir(dir), rados.Connector{}, StateDir(dir).run(), "")
		stop()
		if err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	os.Exit(run(m))
}

func run(m *testing.M) int {
	dir, err := os.MkdirTemp("", "cairn-process-*")
	if err == nil {
		ctx, cancel := context.WithTimeout(context.Background(), 3*time.Minute)
		defer cancel()
		if err = buildKeeper(ctx, dir); err == nil {
			cluster, err = localceph.Start(ctx, dir, localceph.Options{})
		}
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, "These tests need Ceph's daemons: run them inside the build root.", err)
		return 1
	}
	code := m.Run()
	if err := errors.Join(cluster.Stop(), os.RemoveAll(dir)); err != nil {
		fmt.Fprintln(os.Stderr, err)
		return 1
	}
	return code
}

func buildKeeper(ctx context.Context, dir string) error {
	keeperProgram = filepath.Join(dir, "cairn-keeper")
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", keeperProgram, "github.com/cairn-storage/cairn/cmd/cairn-keeper")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build the keeper: %w: %s", err, out)
	}
	return nil
}

// node is one node's data path, in processes of its own.
type node struct {
	*testing.T
	ctx            context.Context
	dir            StateDir
	conn           ceph.Conn
	pool           int64
	client         *remote.Client
	keeper, attach *child
}

type child struct {
	*exec.Cmd
	said said
}

// said is what a process and those that it started said.
type said struct {
	mu   sync.Mutex
	text bytes.Buffer
}

func (s *said) Write(p []byte) (int, error) {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.Write(p)
}

func (s *said) String() string {
	s.mu.Lock()
	defer s.mu.Unlock()
	return s.text.String()
}

const pool = "volumes"

func newNode(t *testing.T) *node {
	ctx, cancel := context.WithTimeout(t.Context(), 6*time.Minute)
	t.Cleanup(cancel)
	conn, err := rados.Connector{}.Connect(ctx, cluster.Credentials(), ceph.ConnectOptions{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, conn.EnsurePool(ctx, ceph.PoolSpec{Name: pool, Size: 2, Application: "rbd"}))
	id, err := conn.PoolID(ctx, pool)
	require.NoError(t, err)
	n := &node{T: t, ctx: ctx, dir: StateDir(t.TempDir()), conn: conn, pool: id}
	n.client = remote.NewClient(n.dir.AttachSocket())
	n.startKeeper()
	n.startAttach()
	t.Cleanup(n.end)
	return n
}

func (n *node) end() {
	for _, c := range []*child{n.attach, n.keeper} {
		c.end(syscall.SIGKILL)
	}
	if n.Failed() {
		n.Logf("attach process:\n%s\nkeeper:\n%s", n.attach.said.String(), n.keeper.said.String())
	}
}

func (n *node) start(program string, args ...string) *child {
	c := &child{Cmd: exec.Command(program, args...)}
	c.Env = append(os.Environ(), attachEnv+"="+string(n.dir))
	c.Stdout, c.Stderr = &c.said, &c.said
	c.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(n, c.Start())
	return c
}

func (n *node) startKeeper() {
	n.keeper = n.start(keeperProgram, "hold", "--dir", string(n.dir.Keeper()))
}

// startSupervised starts an attach process as its pod does, and returns when it answers.
func (n *node) startSupervised() {
	n.attach = n.start(keeperProgram, "run", os.Args[0])
	n.answers()
}

// startAttach starts an attach process, and returns when it answers.
func (n *node) startAttach() {
	n.attach = n.start(os.Args[0])
	n.answers()
}

func (n *node) answers() {
	require.Eventually(n, func() bool { _, err := n.client.List(n.ctx); return err == nil }, 20*time.Second, 5*time.Millisecond)
}

// end ends a process with a signal, and waits for its death.
func (c *child) end(signal syscall.Signal) {
	_ = c.Process.Signal(signal)
	_ = c.Wait()
}

// volume makes an image, as a volume that one node writes to.
func (n *node) volume(size int64) attach.Volume {
	ref := ceph.ImageRef{PoolID: n.pool, Name: "pvc-" + uuid.NewString()}
	require.NoError(n, n.conn.CreateImage(n.ctx, ref, ceph.ImageSpec{Size: size}))
	n.Cleanup(func() {
		if !n.Failed() {
			require.NoError(n, n.conn.RemoveImage(context.WithoutCancel(n.ctx), ref))
		}
	})
	code, err := volumeid.ID{FSID: cluster.FSID, Image: ref}.Encode()
	require.NoError(n, err)
	return attach.Volume{ID: code, Image: ref, Exclusive: true, Credentials: cluster.Credentials()}
}

// leavesNothing checks that nothing is there of a volume: no device, no mount, no
// file, no descriptor of FUSE in any of the processes, and no lock.
func (n *node) leavesNothing(v attach.Volume) {
	n.Helper()
	devices, err := n.client.List(n.ctx)
	require.NoError(n, err)
	require.Empty(n, devices)
	n.keeps()
	entries, err := os.ReadDir(n.dir.attachments())
	require.NoError(n, err)
	for _, entry := range entries {
		require.False(n, entry.IsDir(), entry.Name())
	}
	mounts, err := os.ReadFile("/proc/self/mounts")
	require.NoError(n, err)
	require.NotContains(n, string(mounts), string(n.dir))
	image, err := n.conn.OpenImage(n.ctx, v.Image, ceph.OpenOptions{Exclusive: true, Passphrase: v.Passphrase})
	require.NoError(n, err, "somebody has the lock")
	require.NoError(n, image.Close())
}

// keeps checks how many volumes the processes have descriptors of.
func (n *node) keeps(volumes ...attach.Volume) {
	n.Helper()
	require.Len(n, volumes, n.keeper.devices(), "descriptors that the keeper has")
	require.Len(n, volumes, n.attach.devices(), "descriptors that the attach process has")
}

// devices counts the process's descriptors of /dev/fuse.
func (c *child) devices() (open int) {
	links, _ := filepath.Glob(fmt.Sprintf("/proc/%d/fd/*", c.Process.Pid))
	for _, link := range links {
		if target, err := os.Readlink(link); err == nil && target == "/dev/fuse" {
			open++
		}
	}
	return open
}
