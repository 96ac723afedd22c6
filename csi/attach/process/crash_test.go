package process

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// rounds of killing.
const rounds = 50

// The attach process is killed again and again under I/O, and started again by its
// supervisor: no error, no acknowledged write lost, nothing stale.
func TestKilledUnderIO(t *testing.T) {
	n := newNode(t)
	n.attach.end(syscall.SIGTERM)
	n.startSupervised()
	v := n.volume(128 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	w := n.write(device.Path)
	for range rounds {
		time.Sleep(rand.N(700 * time.Millisecond)) // at any time of its life
		n.killSupervised()
		w.progress()
	}
	result := w.stop()
	said := n.attach.said.String()
	require.Equal(t, rounds, strings.Count(said, "it is started again"))
	replayed := strings.Count(said, `"Serving on"`) - strings.Count(said, "replayed=0 ")
	fmt.Printf("%d × killed: %s; %d times acknowledged writes were carried out again\n", rounds, result, replayed)
	require.NotZero(t, replayed)
	n.attach.end(syscall.SIGTERM)
	require.Zero(t, n.attach.ProcessState.ExitCode())
	n.startAttach()
	n.detach(v)
}

// It is asked to stop again and again under I/O, as an upgrade does.
func TestAskedToStopUnderIO(t *testing.T) {
	n := newNode(t)
	v := n.volume(128 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	w := n.write(device.Path)
	for range rounds {
		n.attach.end(syscall.SIGTERM)
		require.Zero(t, n.attach.ProcessState.ExitCode(), n.attach.said.String())
		n.startSupervised()
		w.progress()
		require.Contains(t, n.attach.said.String(), "replayed=0 ", "nothing acknowledged was left to carry out")
	}
	fmt.Printf("%d × asked to stop: %s\n", rounds, w.stop())
	n.attach.end(syscall.SIGTERM)
	n.startAttach()
	n.detach(v)
}

// killSupervised kills the attach process below its supervisor, and returns when it
// is dead.
func (n *node) killSupervised() {
	n.Helper()
	files, found, err := (&keeper.Client{Socket: n.dir.Keeper().Socket()}).Get(n.ctx, "process", &struct{}{})
	require.NoError(n, err)
	require.True(n, found)
	require.Len(n, files, 2, "the supervisor and its process")
	require.NoError(n, unix.PidfdSendSignal(int(files[1].Fd()), syscall.SIGKILL, nil, 0))
	dead, err := unix.Poll([]unix.PollFd{{Fd: int32(files[1].Fd()), Events: unix.POLLIN}}, 20_000)
	require.NoError(n, err)
	require.Equal(n, 1, dead, "the process does not end")
	for _, file := range files {
		require.NoError(n, file.Close())
	}
}

// Of two supervisors, as after a pod was deleted by force, the second takes the
// first one's place: they do not end each other's process in turn.
func TestTwoSupervisors(t *testing.T) {
	n := newNode(t)
	n.attach.end(syscall.SIGTERM)
	n.startSupervised()
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	w := n.write(device.Path)
	w.progress()
	first := n.attach
	n.attach = n.start(keeperProgram, "run", os.Args[0])
	require.Error(t, first.Wait(), "killed")
	n.answers()
	w.progress()
	require.NotContains(t, n.attach.said.String(), "started again")
	w.stop()
	n.attach.end(syscall.SIGTERM)
	n.startAttach()
	n.detach(v)
}

// Asked to stop while it begins, whenever that is, a process loses no volume.
func TestAskedToStopWhileItBegins(t *testing.T) {
	n := newNode(t)
	volumes := []attach.Volume{n.volume(64 << 20), n.volume(16 << 20), n.volume(16 << 20)}
	device, err := n.client.Attach(n.ctx, volumes[0])
	require.NoError(t, err)
	for _, v := range volumes[1:] {
		_, err := n.client.Attach(n.ctx, v)
		require.NoError(t, err)
	}
	w := n.write(device.Path)
	for i := range 30 {
		n.attach.end(syscall.SIGKILL)
		n.attach = n.start(os.Args[0])
		time.Sleep(time.Duration(i) * 10 * time.Millisecond)
		n.attach.end(syscall.SIGTERM)
		require.Equal(t, len(volumes), n.keeper.devices(), "after %d × 10 ms: %s", i, &n.attach.said)
		n.startAttach()
		w.progress()
	}
	w.stop()
	for _, v := range volumes {
		require.NoError(t, n.client.Detach(n.ctx, v.ID))
	}
	n.keeps()
}

// A keeper that dies alone is not noticed, and the next one has everything.
func TestKeeperAndDataPathKilledInTurn(t *testing.T) {
	n := newNode(t)
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	w := n.write(device.Path)
	for range 5 {
		n.keeper.end(syscall.SIGKILL)
		w.progress()
		n.startKeeper()
		n.holds(v)
		n.attach.end(syscall.SIGKILL)
		n.startAttach()
		w.progress()
	}
	// Asked to stop without a keeper, it serves on until there is one.
	n.keeper.end(syscall.SIGKILL)
	require.NoError(t, n.attach.Process.Signal(syscall.SIGTERM))
	w.progress()
	n.startKeeper()
	require.NoError(t, n.attach.Wait())
	n.startAttach()
	w.progress()
	w.stop()
	n.detach(v)
}

// With both dead the volume is lost: its I/O fails, and nothing stays behind.
func TestBothKilled(t *testing.T) {
	n := newNode(t)
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	disk, err := os.OpenFile(device.Path, os.O_RDWR|syscall.O_DIRECT, 0)
	require.NoError(t, err)
	// One that goes on with the volume is known to who comes after it.
	n.attach.end(syscall.SIGTERM)
	n.startAttach()
	_, err = disk.WriteAt(aligned(), 0)
	require.NoError(t, err)
	var now string
	require.Eventually(t, func() bool {
		devices, err := n.client.List(n.ctx)
		if err == nil && len(devices) == 1 {
			now = devices[0].ClientAddrs
		}
		return now != ""
	}, 20*time.Second, 5*time.Millisecond)
	require.NotEqual(t, device.ClientAddrs, now)
	noted, err := filepath.Glob(filepath.Join(n.dir.attachments(), "*", "state.json"))
	require.NoError(t, err)
	require.Len(t, noted, 1)
	note, err := os.ReadFile(noted[0])
	require.NoError(t, err)
	require.Contains(t, string(note), now)
	n.attach.end(syscall.SIGKILL)
	n.keeper.end(syscall.SIGKILL)
	_, err = disk.WriteAt(aligned(), 0)
	require.Error(t, err)
	require.NoError(t, disk.Close())
	n.startKeeper()
	n.startAttach()
	require.NoError(t, n.client.Detach(n.ctx, v.ID))
	n.keeps()
	_, err = n.client.Attach(n.ctx, v)
	require.NoError(t, err, "the dead owner is fenced, which ends its lock")
	n.detach(v)
}

// Killed in the midst of attaching or detaching, at any time.
func TestKilledWhileAttachingAndDetaching(t *testing.T) {
	n := newNode(t)
	v := n.volume(64 << 20)
	for range 12 {
		for _, call := range []func() error{
			func() error { _, err := n.client.Attach(n.ctx, v); return err },
			func() error { return n.client.Detach(n.ctx, v.ID) },
		} {
			ended := make(chan error, 1)
			go func() { ended <- call() }()
			select {
			case <-ended:
			case <-time.After(rand.N(60 * time.Millisecond)):
			}
			n.attach.end(syscall.SIGKILL)
			n.startAttach()
			require.NoError(t, call(), "once more")
		}
	}
	n.detach(v)
}

// A process that is frozen is ended before another takes its place.
func TestFrozen(t *testing.T) {
	n := newNode(t)
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	w := n.write(device.Path)
	w.progress()
	frozen := n.attach
	require.NoError(t, frozen.Process.Signal(syscall.SIGSTOP))
	n.attach = n.start(os.Args[0])
	require.Error(t, frozen.Wait(), "killed")
	n.answers()
	w.progress()
	w.stop()
	n.detach(v)
}

// A volume that was fenced and attached elsewhere is not gone on with, and what
// its log holds is written nowhere.
func TestMovedMeanwhile(t *testing.T) {
	n, other := newNode(t), newNode(t)
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	put(t, device.Path, 'a')
	n.attach.end(syscall.SIGKILL)
	require.NoError(t, n.conn.Blocklist(n.ctx, device.ClientAddrs, time.Minute))
	moved, err := other.client.Attach(n.ctx, v)
	require.NoError(t, err)
	put(t, moved.Path, 'b')

	n.startAttach()
	require.Eventually(t, func() bool { devices, err := n.client.List(n.ctx); return err == nil && len(devices) == 0 }, 20*time.Second, 10*time.Millisecond)
	require.NoError(t, n.client.Detach(n.ctx, v.ID))
	n.keeps()
	require.Equal(t, byte('b'), get(t, moved.Path))
	other.detach(v)
}

// Where the kernel cannot send requests again, a crash loses the volume, and a
// planned end does not.
func TestKernelWithoutResend(t *testing.T) {
	n := newNode(t)
	v := n.volume(64 << 20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	put(t, device.Path, 'a')
	n.attach.end(syscall.SIGTERM)
	n.forgetResend(v)
	n.startAttach()
	require.Equal(t, byte('a'), get(t, device.Path))
	n.attach.end(syscall.SIGKILL)
	n.startAttach()
	devices, err := n.client.List(n.ctx)
	require.NoError(t, err)
	require.Empty(t, devices)
	n.detach(v)
}

// forgetResend changes what the keeper has of a volume to what an older kernel
// would have made it.
func (n *node) forgetResend(v attach.Volume) {
	store := &keeper.Client{Socket: n.dir.Keeper().Socket()}
	name := "volume-" + attach.Hash(v.ID)
	var state map[string]any
	files, found, err := store.Get(n.ctx, name, &state)
	require.NoError(n, err)
	require.True(n, found)
	require.Equal(n, true, state["resends"])
	delete(state, "resends")
	require.NoError(n, store.Put(n.ctx, name, state, files...))
	for _, file := range files {
		require.NoError(n, file.Close())
	}
}

func put(t *testing.T, path string, with byte) {
	t.Helper()
	disk, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
	require.NoError(t, err)
	block := aligned()
	copy(block, bytes.Repeat([]byte{with}, blockSize))
	_, err = disk.WriteAt(block, 0)
	require.NoError(t, err)
	require.NoError(t, disk.Close())
}

func get(t *testing.T, path string) byte {
	t.Helper()
	disk, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	require.NoError(t, err)
	block := aligned()
	_, err = disk.ReadAt(block, 0)
	require.NoError(t, err)
	require.NoError(t, disk.Close())
	return block[0]
}

// detach ends an attachment, and checks that nothing is left of it.
func (n *node) detach(v attach.Volume) {
	n.Helper()
	require.NoError(n, n.client.Detach(n.ctx, v.ID))
	n.leavesNothing(v)
}

// holds waits until the keeper has the descriptors of volumes.
func (n *node) holds(volumes ...attach.Volume) {
	n.Helper()
	require.Eventually(n, func() bool { return n.keeper.devices() == len(volumes) }, 20*time.Second, 5*time.Millisecond)
}

// A volume whose cluster does not answer waits, and nothing else does.
func TestWaitsForItsCluster(t *testing.T) {
	n := newNode(t)
	v, later := n.volume(64<<20), n.volume(64<<20)
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	w := n.write(device.Path)
	w.progress()
	n.attach.end(syscall.SIGKILL)
	// Somebody has the lock, but the volume was not moved.
	require.NoError(t, n.conn.Blocklist(n.ctx, device.ClientAddrs, time.Minute))
	image, err := n.conn.OpenImage(n.ctx, v.Image, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	n.startAttach()
	devices, err := n.client.List(n.ctx)
	require.NoError(t, err)
	require.Len(t, devices, 1, "it waits, and is not lost")
	_, err = n.client.Attach(n.ctx, later)
	require.NoError(t, err)
	require.NoError(t, n.client.Detach(n.ctx, later.ID))
	require.NoError(t, image.Close())
	w.progress()
	w.stop()
	n.detach(v)
}
