package delta

import (
	"bytes"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"
)

const (
	// sector is what changes are noted by, block is what is kept of former content.
	sector = int64(512)
	block  = int64(4096)
)

// sectors is a set of an image's sectors.
type sectors []uint64

func newSectors(bytes int64) sectors { return make(sectors, (bytes/sector+63)/64) }

func (s sectors) has(n int64) bool { return s[n/64]>>(n%64)&1 == 1 }

func (s sectors) set(from, to int64, in bool) {
	for n := from; n < to; n++ {
		if s[n/64] &^= 1 << (n % 64); in {
			s[n/64] |= 1 << (n % 64)
		}
	}
}

// holds reports whether any sector of a range of bytes is in the set.
func (s sectors) holds(begin, end int64) bool {
	for n, last := begin/sector, (end+sector-1)/sector; n < last; {
		if s[n/64]>>(n%64) == 0 {
			n = (n/64 + 1) * 64
			continue
		}
		if s.has(n) {
			return true
		}
		n++
	}
	return false
}

// content is what an image should hold, and what became of it since the last
// snapshot.
type content struct {
	data []byte // as long as the image may ever grow
	size int64  // of the image
	// written sectors may take room in their objects; touched ones were written or freed since the
	// last snapshot; before is what blocks held then, by their number.
	written, touched sectors
	before           map[int64][]byte
	// clone: the image began as another one's snapshot.
	clone bool
}

// newContent is an empty image of a size that may grow to most bytes. Memory is
// taken as it is filled.
func newContent(t *testing.T, size, most int64) *content {
	data, err := unix.Mmap(-1, 0, int(most), unix.PROT_READ|unix.PROT_WRITE, unix.MAP_ANON|unix.MAP_PRIVATE|unix.MAP_NORESERVE)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, unix.Munmap(data)) })
	c := &content{data: data, size: size, written: newSectors(most)}
	c.begin()
	return c
}

// begin notes that a snapshot was made.
func (c *content) begin() { c.touched, c.before = newSectors(int64(len(c.data))), map[int64][]byte{} }

// past is what was there at the last snapshot.
func (c *content) past(t *testing.T) *content {
	past := newContent(t, c.size, int64(len(c.data)))
	copy(past.data, c.data)
	for n, old := range c.before {
		copy(past.data[n*block:], old)
	}
	return past
}

// touch notes that a range is about to change.
func (c *content) touch(offset, length int64) {
	for n := offset / block; n*block < offset+length; n++ {
		if c.before[n] == nil {
			c.before[n] = bytes.Clone(c.data[n*block : (n+1)*block])
		}
	}
	c.touched.set(offset/sector, (offset+length+sector-1)/sector, true)
}

func (c *content) write(p []byte, offset int64) {
	length := int64(len(p))
	c.touch(offset, length)
	copy(c.data[offset:], p)
	c.written.set(offset/sector, (offset+length+sector-1)/sector, true)
}

// zero clears a range. An object that is freed whole takes no room, save in a
// clone, where it hides the parent's; one whose end is freed is cut, or grown, to
// where that begins.
func (c *content) zero(offset, length int64) {
	if length <= 0 {
		return
	}
	c.touch(offset, length)
	end := offset + length
	clear(c.data[offset:end])
	c.written.set(offset/sector, (end+sector-1)/sector, true)
	for n := (offset + object - 1) / object; (n+1)*object <= end && !c.clone; n++ {
		c.written.set(n*object/sector, (n+1)*object/sector, false)
	}
}

// zeroed is how much a discard of a range frees.
func zeroed(offset, length, unit int64) (int64, int64) {
	begin, end := (offset+unit-1)/unit*unit, (offset+length)/unit*unit
	return begin, max(0, end-begin)
}

// missed returns the first byte that differs from what was there at the last
// snapshot, and is in none of the extents; -1 for none. It counts those that differ.
func (c *content) missed(in sorted) (offset, changed int64) {
	for n, old := range c.before {
		now, whole := c.data[n*block:(n+1)*block], in.coversAll(n*block, (n+1)*block)
		for i := range old {
			if old[i] == now[i] {
				continue
			}
			if changed++; !whole && !in.covers(n*block+int64(i)) {
				return n*block + int64(i), changed
			}
		}
	}
	return -1, changed
}

// excess looks at what extents have beyond a set of sectors, rounded to a unit.
// Such bytes must be holes: an object that is written beyond its end grows to
// there, so that all from its former end on counts; what was not written of it
// reads as zeroes. It returns how many bytes are holes.
func (c *content) excess(in sorted, set sectors, unit int64) (holes int64, err error) {
	for _, e := range in {
		for at := e.begin; at < e.end; {
			unitEnd := min((at/unit+1)*unit, e.end)
			if !set.holds(at/unit*unit, (at/unit+1)*unit) {
				if err := c.hole(at, unitEnd, set); err != nil {
					return 0, fmt.Errorf("of extent %v: %w", e, err)
				}
				holes += unitEnd - at
			}
			at = unitEnd
		}
	}
	return holes, nil
}

func (c *content) hole(begin, end int64, set sectors) error {
	if !allZero(c.data[begin:end]) {
		return fmt.Errorf("bytes %d to %d were not touched, and are no hole", begin, end)
	}
	if !set.holds(end, (begin/object+1)*object) {
		return fmt.Errorf("bytes %d to %d were not touched, nor anything that follows in their object", begin, end)
	}
	return nil
}

// nonZero returns the first byte that is not zero and in none of the extents; -1
// for none.
func (c *content) nonZero(in sorted) int64 {
	for at := int64(0); at < c.size; at += block {
		part := c.data[at : at+block]
		if in.coversAll(at, at+block) || allZero(part) {
			continue
		}
		for i, b := range part {
			if b != 0 && !in.covers(at+int64(i)) {
				return at + int64(i)
			}
		}
	}
	return -1
}

var emptyBlock = make([]byte, block)

func allZero(p []byte) bool {
	for len(p) > 0 {
		n := min(len(p), len(emptyBlock))
		if !bytes.Equal(p[:n], emptyBlock[:n]) {
			return false
		}
		p = p[n:]
	}
	return true
}
