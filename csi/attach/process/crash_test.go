package process

import (
	"bytes"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// rounds of killing, for each signal.
const rounds = 50

// The attach process is killed, and asked to stop, again and again under I/O: no
// error, no acknowledged write lost, nothing stale.
func TestEndedUnderIO(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			n := newNode(t)
			v := n.volume(128 << 20)
			device, err := n.client.Attach(n.ctx, v)
			require.NoError(t, err)
			w := n.write(device.Path)
			replayed := 0
			for range rounds {
				n.attach.end(signal)
				n.startAttach()
				w.progress()
				said := n.attach.said.String()
				require.Contains(t, said, `"Serving on"`)
				if !strings.Contains(said, "replayed=0 ") {
					replayed++
				}
			}
			result := w.stop()
			fmt.Printf("%d × %v: %d writes acknowledged, %d blocks read back, 0 lost, 0 stale, longest stall %v; %d times acknowledged writes were carried out again\n",
				rounds, signal, result.acknowledged, result.read, result.stall.Round(time.Millisecond), replayed)
			require.Equal(t, signal == syscall.SIGKILL, replayed > 0)
			n.detach(v)
		})
	}
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
	n.attach = n.start("attach")
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
	store := &keeper.Client{Socket: n.dir.keeperSocket()}
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
