// Package verifier writes to a file or block device as a database does and then
// reads every acknowledged write back. It is the oracle of the fault tests: an
// acknowledged write that cannot be read is a lost write.
package verifier

import (
	"bytes"
	"context"
	"encoding/binary"
	"errors"
	"fmt"
	"hash/crc32"
	"math/rand/v2"
	"os"
	"sync"
	"syscall"
	"time"
	"unsafe"
)

// BlockSize of each write, in bytes.
const BlockSize = 4096

// Options of a run.
type Options struct {
	// Path of the file (made when missing) or block device.
	Path string
	// Size in bytes of the part that is written.
	Size int64
	// Depth is how many writes are under way at once.
	Depth int
	// Duration of the writing.
	Duration time.Duration
}

// Result of a run.
type Result struct {
	Acknowledged int64 `json:"acknowledged"`
	// Failed counts writes that ended in an error: the file became unusable.
	Failed int64 `json:"failed"`
	// Lost blocks hold less than what was acknowledged, Corrupt ones no write at all.
	Lost    int64 `json:"lost"`
	Corrupt int64 `json:"corrupt"`
	// LongestStall is the longest that one write took.
	LongestStallMillis int64  `json:"longestStallMillis"`
	Error              string `json:"error,omitempty"`
}

// Sound reports whether nothing was lost and no write failed.
func (r *Result) Sound() bool {
	return r.Acknowledged > 0 && r.Failed == 0 && r.Lost == 0 && r.Corrupt == 0 && r.Error == ""
}

// Run writes until the duration or the context ends, then reads back.
func Run(ctx context.Context, options Options) (*Result, error) {
	file, err := os.OpenFile(options.Path, os.O_RDWR|os.O_CREATE|syscall.O_DIRECT|syscall.O_DSYNC, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open what is written: %w", err)
	}
	defer func() { _ = file.Close() }()
	if info, err := file.Stat(); err == nil && info.Mode().IsRegular() {
		if err := file.Truncate(options.Size); err != nil {
			return nil, fmt.Errorf("size the file: %w", err)
		}
	}
	v := &run{file: file, blocks: options.Size / BlockSize, depth: int64(options.Depth)}
	v.acked = make([]uint64, v.blocks)
	v.tried = make([]uint64, v.blocks)
	v.write(ctx, options.Duration)
	if err := v.check(options.Path); err != nil {
		v.result.Error = err.Error()
	}
	return &v.result, nil
}

type run struct {
	file          *os.File
	blocks, depth int64
	// acked and tried are the last sequence number of each block that was
	// acknowledged, and that was sent. Each block belongs to one writer.
	acked, tried []uint64
	mu           sync.Mutex
	result       Result
}

// write lets each writer write to its own blocks.
func (v *run) write(ctx context.Context, duration time.Duration) {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var writers sync.WaitGroup
	for i := range v.depth {
		writers.Go(func() { v.writer(ctx, i) })
	}
	writers.Wait()
}

func (v *run) writer(ctx context.Context, first int64) {
	block := aligned()
	for seq := uint64(1); ctx.Err() == nil; seq++ {
		at := first + v.depth*rand.Int64N(v.blocks/v.depth)
		fill(block, uint64(at), seq)
		v.tried[at] = seq
		began := time.Now()
		_, err := v.file.WriteAt(block, at*BlockSize)
		stall := time.Since(began)
		if err == nil {
			v.acked[at] = seq
		}
		v.count(stall, err)
		if err != nil {
			return
		}
	}
}

func (v *run) count(stall time.Duration, err error) {
	v.mu.Lock()
	defer v.mu.Unlock()
	v.result.LongestStallMillis = max(v.result.LongestStallMillis, stall.Milliseconds())
	if err != nil {
		v.result.Failed++
		v.result.Error = err.Error()
		return
	}
	v.result.Acknowledged++
}

// check reads every block back through a descriptor of its own.
func (v *run) check(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|syscall.O_DIRECT, 0)
	if err != nil {
		return fmt.Errorf("open for reading back: %w", err)
	}
	defer func() { _ = file.Close() }()
	block := aligned()
	for at := range v.blocks {
		if v.acked[at] == 0 {
			continue
		}
		if _, err := file.ReadAt(block, at*BlockSize); err != nil {
			return fmt.Errorf("read block %d back: %w", at, err)
		}
		switch seq, err := parse(block, uint64(at)); {
		case err != nil:
			v.result.Corrupt++
		case seq < v.acked[at] || seq > v.tried[at]:
			v.result.Lost++
		}
	}
	return nil
}

const magic = 0x4341_4952_4e56_4552 // CAIRNVER

// fill makes a block that says which write it is, with a checksum over all of it.
func fill(block []byte, at, seq uint64) {
	binary.LittleEndian.PutUint64(block[0:], magic)
	binary.LittleEndian.PutUint64(block[8:], at)
	binary.LittleEndian.PutUint64(block[16:], seq)
	noise := at*0x9e3779b97f4a7c15 ^ seq
	for i := 24; i < BlockSize-8; i += 8 {
		noise = noise*6364136223846793005 + 1442695040888963407
		binary.LittleEndian.PutUint64(block[i:], noise)
	}
	binary.LittleEndian.PutUint64(block[BlockSize-8:], uint64(checksum(block)))
}

// parse returns the sequence number of a block that was written whole.
func parse(block []byte, at uint64) (uint64, error) {
	seq := binary.LittleEndian.Uint64(block[16:])
	want := aligned()
	fill(want, at, seq)
	if !bytes.Equal(block, want) {
		return 0, errors.New("not a block of this run")
	}
	return seq, nil
}

func checksum(block []byte) uint32 {
	return crc32.Checksum(block[:BlockSize-8], crc32.MakeTable(crc32.Castagnoli))
}

// aligned returns a block as direct I/O needs it.
func aligned() []byte {
	data := make([]byte, 2*BlockSize)
	skip := BlockSize - int(uintptr(unsafe.Pointer(&data[0]))%BlockSize)
	return data[skip : skip+BlockSize]
}
