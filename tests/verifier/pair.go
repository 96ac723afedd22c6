package verifier

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"io"
	"os"
	"syscall"
	"time"
)

// pairBlocks is how many blocks of each file of a pair are written, in turn.
const pairBlocks = 64

// WritePair writes numbers to two files or devices in turn: each number to the
// first, and when that is acknowledged to the second. At any instant the first is
// at most one number ahead, and never behind.
func WritePair(ctx context.Context, first, second string, duration time.Duration) error {
	ctx, cancel := context.WithTimeout(ctx, duration)
	defer cancel()
	var files [2]*os.File
	for i, path := range []string{first, second} {
		file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE|syscall.O_DIRECT|syscall.O_DSYNC, 0o600)
		if err != nil {
			return fmt.Errorf("open what is written: %w", err)
		}
		defer func() { _ = file.Close() }()
		files[i] = file
	}
	block := aligned()
	for n := uint64(1); ctx.Err() == nil; n++ {
		at := n % pairBlocks
		fill(block, at, n)
		for _, file := range files {
			if _, err := file.WriteAt(block, int64(at)*BlockSize); err != nil {
				return fmt.Errorf("write number %d: %w", n, err)
			}
		}
	}
	return nil
}

// Pair is the last number in each of two files.
type Pair struct {
	First  uint64 `json:"first"`
	Second uint64 `json:"second"`
}

// Consistent reports whether the two were so at one instant.
func (p Pair) Consistent() bool {
	return p.Second > 0 && (p.First == p.Second || p.First == p.Second+1)
}

// ReadPair reads two copies of what WritePair wrote. An error says which block of
// them is not what it was when the last number was written.
func ReadPair(first, second string) (p Pair, err error) {
	if p.First, err = lastNumber(first); err != nil {
		return p, err
	}
	p.Second, err = lastNumber(second)
	return p, err
}

func lastNumber(path string) (uint64, error) {
	file, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("open what is read: %w", err)
	}
	defer func() { _ = file.Close() }()
	blocks := make([][]byte, pairBlocks)
	last := uint64(0)
	for at := range blocks {
		blocks[at] = aligned()
		if _, err := file.ReadAt(blocks[at], int64(at)*BlockSize); err != nil && !errors.Is(err, io.EOF) {
			return 0, fmt.Errorf("read block %d of %s: %w", at, path, err)
		}
		if n, err := parse(blocks[at], uint64(at)); err == nil {
			last = max(last, n)
		}
	}
	for at, block := range blocks {
		if !bytes.Equal(block, whenLast(last, uint64(at))) {
			return 0, fmt.Errorf("block %d of %s is not what it was when number %d was written", at, path, last)
		}
	}
	return last, nil
}

// whenLast is what a block holds when a number is the last that was written.
func whenLast(last, at uint64) []byte {
	block := aligned()
	behind := (last%pairBlocks + pairBlocks - at) % pairBlocks
	if last > behind {
		fill(block, at, last-behind)
	}
	return block
}
