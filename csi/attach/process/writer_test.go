package process

import (
	"bytes"
	"encoding/binary"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"sync"
	"sync/atomic"
	"syscall"
	"time"
	"unsafe"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	blockSize = 4096
	blocks    = 4096
	depth     = 8
)

// writer writes to a device past the page cache, reads back what it wrote, zeroes
// and flushes, and knows what each block must hold.
type writer struct {
	n    *node
	file *os.File
	// acked is the sequence number that each block holds; zero is none: zeroes.
	// Each block is one goroutine's.
	acked []uint64
	done  atomic.Bool
	group sync.WaitGroup
	writes, reads,
	stall atomic.Int64
	failed chan string
}

type written struct {
	acknowledged, read int64
	stall              time.Duration
}

func (w written) String() string {
	return fmt.Sprintf("%d writes acknowledged, %d blocks read back, 0 lost, 0 stale, longest stall %v",
		w.acknowledged, w.read, w.stall.Round(time.Millisecond))
}

func (n *node) write(path string) *writer {
	file, err := os.OpenFile(path, os.O_RDWR|syscall.O_DIRECT, 0)
	require.NoError(n, err)
	w := &writer{n: n, file: file, acked: make([]uint64, blocks), failed: make(chan string, depth)}
	for i := range depth {
		w.group.Go(func() { w.work(i) })
	}
	return w
}

func (w *writer) work(mine int) {
	data, got := aligned(), aligned()
	for seq := uint64(1); !w.done.Load(); seq++ {
		at := mine + depth*rand.IntN(blocks/depth)
		began := time.Now()
		if why := w.step(data, got, at, seq); why != "" {
			w.failed <- why
			return
		}
		for took := int64(time.Since(began)); ; {
			longest := w.stall.Load()
			if took <= longest || w.stall.CompareAndSwap(longest, took) {
				break
			}
		}
	}
}

// step makes one request, and says what was wrong.
func (w *writer) step(data, got []byte, at int, seq uint64) string {
	offset := int64(at) * blockSize
	switch n := rand.IntN(100); {
	case n < 2:
		if err := w.file.Sync(); err != nil {
			return "flush: " + err.Error()
		}
	case n < 5:
		if err := unix.Fallocate(int(w.file.Fd()), unix.FALLOC_FL_PUNCH_HOLE|unix.FALLOC_FL_KEEP_SIZE, offset, blockSize); err != nil {
			return "zero: " + err.Error()
		}
		w.acked[at] = 0
	case n < 30:
		return w.check(got, data, at)
	default:
		fill(data, at, seq)
		if _, err := w.file.WriteAt(data, offset); err != nil {
			return "write: " + err.Error()
		}
		w.acked[at] = seq
		w.writes.Add(1)
	}
	return ""
}

func (w *writer) check(got, want []byte, at int) string {
	if _, err := w.file.ReadAt(got, int64(at)*blockSize); err != nil {
		return "read: " + err.Error()
	}
	fill(want, at, w.acked[at])
	if !bytes.Equal(got, want) {
		return "a block does not hold what was acknowledged"
	}
	w.reads.Add(1)
	return ""
}

// fill makes what a block holds: its number, the sequence number, and a checksum.
func fill(block []byte, at int, seq uint64) {
	clear(block)
	if seq == 0 {
		return
	}
	for i := 0; i < len(block)-8; i += 16 {
		binary.LittleEndian.PutUint64(block[i:], uint64(at))
		binary.LittleEndian.PutUint64(block[i+8:], seq)
	}
	binary.LittleEndian.PutUint32(block[len(block)-4:], crc32.ChecksumIEEE(block[:len(block)-4]))
}

// progress waits until writes were acknowledged since.
func (w *writer) progress() {
	w.n.Helper()
	want := w.writes.Load() + 8*depth
	require.Eventually(w.n, func() bool { return len(w.failed) > 0 || w.writes.Load() >= want }, 60*time.Second, time.Millisecond)
	if len(w.failed) > 0 {
		w.n.Fatal(<-w.failed)
	}
}

// stop ends the writing, and reads every block back.
func (w *writer) stop() written {
	w.n.Helper()
	w.done.Store(true)
	w.group.Wait()
	if len(w.failed) > 0 {
		w.n.Fatal(<-w.failed)
	}
	data, got := aligned(), aligned()
	for at := range blocks {
		require.Empty(w.n, w.check(got, data, at), "block %d", at)
	}
	require.NoError(w.n, w.file.Close())
	return written{w.writes.Load(), w.reads.Load(), time.Duration(w.stall.Load())}
}

// aligned returns memory for one block as direct I/O wants it.
func aligned() []byte {
	memory := make([]byte, 2*blockSize)
	skip := (blockSize - int(uintptr(unsafe.Pointer(&memory[0]))%blockSize)) % blockSize
	return memory[skip : skip+blockSize]
}
