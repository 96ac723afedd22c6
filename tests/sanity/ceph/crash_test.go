package ceph

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach/fuse"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// attachEnv makes this test's program an attach process with its state there.
const attachEnv = "CAIRN_TEST_ATTACH"

func TestMain(m *testing.M) {
	if dir := os.Getenv(attachEnv); dir != "" {
		if err := attachProcess(dir); err != nil {
			fmt.Fprintln(os.Stderr, err)
			os.Exit(1)
		}
		return
	}
	code := m.Run()
	if running != nil {
		if err := errors.Join(running.Stop(), os.RemoveAll(runningDir)); err != nil {
			fmt.Fprintln(os.Stderr, err)
			code = 1
		}
	}
	os.Exit(code)
}

func attachProcess(dir string) error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	attacher := &fuse.Attacher{Dir: dir, Connector: rados.Connector{}}
	if err := attacher.Clean(); err != nil {
		klog.ErrorS(err, "clean")
	}
	listener, err := server.Listen(ctx, filepath.Join(dir, "attach.sock"))
	if err != nil {
		return err
	}
	return web.ServeOn(ctx, listener, remote.Handler(attacher))
}

// bench is one node with its attach process and one volume.
type bench struct {
	*testing.T
	dir, code string
	conn      ceph.Conn
	ref       ceph.ImageRef
	source    connections.Static
	process   *exec.Cmd
}

func newBench(t *testing.T, filesystem string) *bench {
	credentials := cluster(t)
	preparePool(t, credentials)
	conn, err := rados.Connector{}.Connect(t.Context(), credentials, connections.Timeouts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	id, err := conn.PoolID(t.Context(), pool)
	require.NoError(t, err)
	ref := ceph.ImageRef{PoolID: id, Name: "pvc-" + uuid.NewString()}
	require.NoError(t, conn.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: 1 << 30}))
	code, err := volumeid.ID{FSID: credentials.FSID, Image: ref}.Encode()
	require.NoError(t, err)
	b := &bench{T: t, dir: t.TempDir(), code: code, conn: conn, ref: ref, source: connections.Static{credentials.FSID: credentials}}
	b.startAttach()
	t.Cleanup(func() {
		b.killAttach()
		if !t.Failed() {
			require.NoError(t, conn.RemoveImage(context.Background(), ref))
		}
	})
	return b
}

func (b *bench) attachDir() string { return filepath.Join(b.dir, "attach") }

func (b *bench) startAttach() {
	b.process = exec.Command(os.Args[0])
	b.process.Env = append(os.Environ(), attachEnv+"="+b.attachDir())
	b.process.Stdout, b.process.Stderr = os.Stderr, os.Stderr
	b.process.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	require.NoError(b, b.process.Start())
	client := remote.NewClient(filepath.Join(b.attachDir(), "attach.sock"))
	require.Eventually(b, func() bool { _, err := client.List(b.Context()); return err == nil }, 10*time.Second, 10*time.Millisecond)
}

func (b *bench) killAttach() {
	_ = b.process.Process.Kill()
	_ = b.process.Wait()
}

// plugin returns the node service as a plugin that has just started has it.
func (b *bench) plugin() *node.Server {
	s := &node.Server{ID: "n", KubeletDir: b.dir, Method: "fuse", Host: host.NewLinux(), Credentials: b.source,
		Attacher: remote.NewClient(filepath.Join(b.attachDir(), "attach.sock")),
		Journal:  journal.Journal{Dir: filepath.Join(b.dir, "journal")}}
	require.NoError(b, s.Reconcile(b.Context()))
	return s
}

func (b *bench) staging() string { return filepath.Join(b.dir, "staging") }
func (b *bench) target() string  { return filepath.Join(b.dir, "target") }

func capability(filesystem string) *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: filesystem}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER}}
}

func (b *bench) up(s *node.Server, filesystem string) {
	ctx, cancel := context.WithTimeout(b.Context(), 90*time.Second)
	defer cancel()
	_, err := s.NodeStageVolume(ctx, &csi.NodeStageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.staging(), VolumeCapability: capability(filesystem)})
	require.NoError(b, err)
	_, err = s.NodePublishVolume(ctx, &csi.NodePublishVolumeRequest{VolumeId: b.code, StagingTargetPath: b.staging(), TargetPath: b.target(), VolumeCapability: capability(filesystem)})
	require.NoError(b, err)
}

func (b *bench) down(s *node.Server) {
	ctx, cancel := context.WithTimeout(b.Context(), 60*time.Second)
	defer cancel()
	_, err := s.NodeUnpublishVolume(ctx, &csi.NodeUnpublishVolumeRequest{VolumeId: b.code, TargetPath: b.target()})
	require.NoError(b, err)
	_, err = s.NodeUnstageVolume(ctx, &csi.NodeUnstageVolumeRequest{VolumeId: b.code, StagingTargetPath: b.staging()})
	require.NoError(b, err)
}

func noise(n int) []byte {
	r := rand.New(rand.NewPCG(1, 2))
	data := make([]byte, n)
	for i := range data {
		data[i] = byte(r.Uint32())
	}
	return data
}

func writeSynced(t *testing.T, path string, data []byte) {
	f, err := os.Create(path)
	require.NoError(t, err)
	_, err = f.Write(data)
	require.NoError(t, errors.Join(err, f.Sync(), f.Close()))
}

// Data written through a mounted volume is there again after a detach; the
// volume grows online; a restarted plugin goes on where the last one was.
func TestXFSLife(t *testing.T) {
	b := newBench(t, "xfs")
	s := b.plugin()
	start := time.Now()
	b.up(s, "xfs")
	t.Logf("stage and publish, with mkfs.xfs: %s", time.Since(start).Round(time.Millisecond))
	data := noise(32 << 20)
	writeSynced(t, filepath.Join(b.target(), "data"), data)

	s = b.plugin() // as after a restart
	require.NoError(t, b.conn.GrowImage(t.Context(), b.ref, 2<<30))
	grown, err := s.NodeExpandVolume(t.Context(), &csi.NodeExpandVolumeRequest{VolumeId: b.code, VolumePath: b.target(),
		CapacityRange: &csi.CapacityRange{RequiredBytes: 2 << 30}})
	require.NoError(t, err)
	require.Equal(t, int64(2<<30), grown.GetCapacityBytes())
	stats, err := s.NodeGetVolumeStats(t.Context(), &csi.NodeGetVolumeStatsRequest{VolumeId: b.code, VolumePath: b.target()})
	require.NoError(t, err)
	require.Greater(t, stats.GetUsage()[0].GetTotal(), int64(1900<<20))

	start = time.Now()
	b.down(s)
	b.up(s, "xfs")
	t.Logf("unpublish, unstage, stage and publish again: %s", time.Since(start).Round(time.Millisecond))
	got, err := os.ReadFile(filepath.Join(b.target(), "data"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	b.down(s)
}

// When the attach process dies, the volume is lost for its pod, and said to be;
// the next start of the pod gets it back with all that was synced.
func TestAttachProcessIsKilled(t *testing.T) {
	b := newBench(t, "ext4")
	s := b.plugin()
	b.up(s, "ext4")
	data := noise(8 << 20)
	writeSynced(t, filepath.Join(b.target(), "data"), data)
	b.killAttach()
	_, err := s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: b.code, StagingTargetPath: b.staging(),
		TargetPath: filepath.Join(b.dir, "other"), VolumeCapability: capability("ext4")})
	require.ErrorContains(t, err, "attach process does not answer")

	b.startAttach()
	s = b.plugin()
	r, err := s.Journal.Read(b.code)
	require.NoError(t, err)
	require.Contains(t, r.Unhealthy, "data path ended")
	_, err = s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: b.code, StagingTargetPath: b.staging(),
		TargetPath: filepath.Join(b.dir, "other"), VolumeCapability: capability("ext4")})
	require.ErrorContains(t, err, "data path ended")

	start := time.Now()
	b.down(s)
	b.up(s, "ext4")
	t.Logf("taken down and up again after the kill: %s", time.Since(start).Round(time.Millisecond))
	got, err := os.ReadFile(filepath.Join(b.target(), "data"))
	require.NoError(t, err)
	require.True(t, bytes.Equal(data, got))
	b.down(s)
}

// A pod never gets the node's own disk in place of a volume: publishing refuses
// when what was staged has gone from under the staging path.
func TestNeverTheRootDisk(t *testing.T) {
	b := newBench(t, "ext4")
	s := b.plugin()
	b.up(s, "ext4")
	require.NoError(t, unix.Unmount(b.target(), 0))
	require.NoError(t, unix.Unmount(b.staging(), 0))
	_, err := s.NodePublishVolume(t.Context(), &csi.NodePublishVolumeRequest{VolumeId: b.code, StagingTargetPath: b.staging(),
		TargetPath: b.target(), VolumeCapability: capability("ext4")})
	require.ErrorContains(t, err, "nothing is mounted at the staging path")
	b.up(s, "ext4")
	b.down(s)
}
