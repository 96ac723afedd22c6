package model

import (
	"maps"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const blockSize = 4096

// blocks are the parts of an image that hold data, by their number. A block is
// never changed once it is in the map, so that images and snapshots share it.
type blocks map[int64][]byte

func (b blocks) read(p []byte, offset int64) {
	for done := 0; done < len(p); {
		at := offset + int64(done)
		from := at % blockSize
		size := min(len(p)-done, int(blockSize-from))
		part := p[done : done+size]
		if block, ok := b[at/blockSize]; ok {
			copy(part, block[from:])
		} else {
			clear(part)
		}
		done += size
	}
}

func (b blocks) write(p []byte, offset int64) {
	for done := 0; done < len(p); {
		at := offset + int64(done)
		block := make([]byte, blockSize)
		copy(block, b[at/blockSize])
		done += copy(block[at%blockSize:], p[done:])
		b[at/blockSize] = block
	}
}

// zero drops the blocks that are wholly in a range and clears the rest of it.
func (b blocks) zero(offset, length int64) {
	for end := offset + length; offset < end; {
		size := min(blockSize-offset%blockSize, end-offset)
		if size == blockSize {
			delete(b, offset/blockSize)
		} else if b[offset/blockSize] != nil {
			b.write(make([]byte, size), offset)
		}
		offset += size
	}
}

// collect adds the identity of every block to a set.
func (b blocks) collect(into map[*byte]struct{}) {
	for _, block := range b {
		into[&block[0]] = struct{}{}
	}
}

// diff returns what differs between two states, in order and from an offset on;
// size bounds the last block.
func diff(base, target blocks, offset, size int64) (out []ceph.Extent) {
	numbers := map[int64]struct{}{}
	for _, side := range []blocks{base, target} {
		for n := range side {
			if !same(base[n], target[n]) {
				numbers[n] = struct{}{}
			}
		}
	}
	for _, n := range slices.Sorted(maps.Keys(numbers)) {
		from, to := max(n*blockSize, offset), min((n+1)*blockSize, size)
		if from >= to {
			continue
		}
		zero := target[n] == nil
		if last := len(out) - 1; last >= 0 && out[last].Zero == zero && out[last].Offset+out[last].Length == from {
			out[last].Length += to - from
			continue
		}
		out = append(out, ceph.Extent{Offset: from, Length: to - from, Zero: zero})
	}
	return out
}

func same(a, b []byte) bool {
	if a == nil || b == nil {
		return a == nil && b == nil
	}
	return &a[0] == &b[0]
}
