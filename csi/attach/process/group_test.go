package process

import (
	"encoding/binary"
	"fmt"
	"os"
	"sync/atomic"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

const groupTries = 20

// Group snapshots are made of two volumes that two nodes have in use, while a
// writer writes each number first to the one and then to the other, and others
// write as fast as they can. No group snapshot may hold a number on the second
// volume that it does not hold on the first.
func TestGroupSnapshotsUnderIO(t *testing.T) {
	a, b := newNode(t), newNode(t)
	first, second := a.volume(128<<20), b.volume(128<<20)
	paths := []string{a.device(first), b.device(second)}
	writers := []*writer{a.write(paths[0]), b.write(paths[1])}
	pair := newPair(t, paths)

	longest := time.Duration(0)
	for try := range groupTries {
		before := pair.written.Load()
		ref := ceph.GroupRef{PoolID: a.pool, Name: fmt.Sprintf("group-%d", try)}
		began := time.Now()
		group, err := a.conn.SnapshotGroup(a.ctx, ref, []ceph.ImageRef{first.Image, second.Image})
		require.NoError(t, err)
		longest = max(longest, time.Since(began))
		require.Len(t, group.Members, 2)
		on := map[string]uint64{}
		for _, member := range group.Members {
			on[member.Image] = a.numberIn(member)
		}
		x, y := on[first.Image.Name], on[second.Image.Name]
		require.GreaterOrEqual(t, x, before, "what was acknowledged before is there")
		require.True(t, x == y || x == y+1, "try %d: %d on the first volume, %d on the second", try, x, y)
		for _, w := range writers {
			w.progress()
		}
		require.NoError(t, a.conn.RemoveGroup(a.ctx, ref))
	}
	last := pair.stop()
	stall := time.Duration(0)
	for _, w := range writers {
		stall = max(stall, w.stop().stall)
	}
	fmt.Printf("%d group snapshots of two volumes in use on two nodes: consistent, %d numbers written in turn; longest call %v, longest stall of a write %v\n",
		groupTries, last, longest.Round(time.Millisecond), stall.Round(time.Millisecond))
	a.detach(first)
	b.detach(second)
}

// A data path that is killed while it is held leaves nothing locked or lost, and
// one that its holder forgot serves on.
func TestHeldAndForgotten(t *testing.T) {
	n := newNode(t)
	v := n.volume(128 << 20)
	w := n.write(n.device(v))
	n.attach.say(t, syscall.SIGSTOP)
	_, err := n.conn.SnapshotGroup(n.ctx, ceph.GroupRef{PoolID: n.pool, Name: "frozen"}, []ceph.ImageRef{v.Image})
	require.True(t, ceph.Is(err, ceph.Busy), "%v", err)
	n.attach.say(t, syscall.SIGCONT)
	w.progress()
	n.attach.end(syscall.SIGKILL)
	n.startAttach()
	w.progress()
	_, err = n.conn.Group(n.ctx, ceph.GroupRef{PoolID: n.pool, Name: "frozen"})
	require.True(t, ceph.Is(err, ceph.NotFound), "%v", err)
	w.stop()
	n.detach(v)
}

func (c *child) say(t *testing.T, signal syscall.Signal) {
	require.NoError(t, c.Process.Signal(signal))
}

func (n *node) device(v attach.Volume) string {
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(n, err)
	return device.Path
}

// pair writes numbers to one block of each of two devices, beyond what the
// writers write, one after the other.
type pair struct {
	t       *testing.T
	files   []*os.File
	written atomic.Uint64
	ending  atomic.Bool
	ended   chan error
}

const pairOffset = int64(blocks) * blockSize

func newPair(t *testing.T, paths []string) *pair {
	p := &pair{t: t, ended: make(chan error, 1)}
	for _, path := range paths {
		file, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT|syscall.O_DSYNC, 0)
		require.NoError(t, err)
		p.files = append(p.files, file)
	}
	go func() { p.ended <- p.run() }()
	return p
}

func (p *pair) run() error {
	data := aligned()
	for number := uint64(1); !p.ending.Load(); number++ {
		binary.LittleEndian.PutUint64(data, number)
		for _, file := range p.files {
			if _, err := file.WriteAt(data, pairOffset); err != nil {
				return err
			}
		}
		p.written.Store(number)
	}
	return nil
}

func (p *pair) stop() uint64 {
	p.ending.Store(true)
	require.NoError(p.t, <-p.ended)
	for _, file := range p.files {
		require.NoError(p.t, file.Close())
	}
	return p.written.Load()
}

// numberIn reads the pair's number in a snapshot.
func (n *node) numberIn(member ceph.SnapshotInfo) uint64 {
	image, err := n.conn.OpenImage(n.ctx, ceph.ImageRef{PoolID: n.pool, Name: member.Image}, ceph.OpenOptions{ReadOnly: true, Snapshot: member.Ref.SnapID})
	require.NoError(n, err)
	data := make([]byte, 8)
	_, err = image.ReadAt(data, pairOffset)
	require.NoError(n, err)
	require.NoError(n, image.Close())
	return binary.LittleEndian.Uint64(data)
}
