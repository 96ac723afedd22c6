package disk

import (
	"bytes"
	"context"
	"crypto/sha256"
	"fmt"
	"slices"
	"sync"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// A device is blank when no signature is known, and its begin and end are zero.
const (
	headSize = 1 << 20
	tailSize = 64 << 10
)

// contents looks at what devices hold. It remembers what it found for as long
// as the begin and the end of a device stay the same, so that looking again
// costs a read and no process.
type contents struct {
	host   Host
	locked bool // the caller holds the device's lock
	probe  func(ctx context.Context, d *device) (signature, error)

	mu    sync.Mutex
	known map[string]memory // by kernel name
}

type memory struct {
	identity string
	found    signature
}

func newContents(host Host) *contents {
	return &contents{host: host, probe: probeSignature, known: map[string]memory{}}
}

// label reads a device's BlueStore label; nil when there is none.
func (c *contents) label(b block) (*label, error) {
	d, err := openDevice(c.host, b)
	if err != nil {
		return nil, err
	}
	defer func() { _ = d.Close() }()
	return d.label()
}

// judge finds out whether a device without a label is blank and nobody's.
func (c *contents) judge(ctx context.Context, b block) (verdict, error) {
	d, err := openDevice(c.host, b)
	if err != nil {
		return verdict{}, err
	}
	defer func() { _ = d.Close() }()
	busy, err := c.isBusy(d)
	if err != nil {
		return verdict{}, err
	}
	if busy {
		return refuse(v1alpha1.DeviceInUse, "another program has opened the device for itself"), nil
	}
	head, err := d.read(0, headSize)
	if err != nil {
		return verdict{}, err
	}
	tail, err := d.read(max(0, b.size-tailSize), tailSize)
	if err != nil {
		return verdict{}, err
	}
	found, err := c.signature(ctx, d, b, identity(b, head, tail))
	if err != nil {
		return verdict{}, err
	}
	return judgeContent(b, found, isZero(head) && isZero(tail)), nil
}

// isBusy says whether another program has the device for itself. Asking takes
// the device exclusively for a moment; a program that prepares it holds its
// lock and is not disturbed.
func (c *contents) isBusy(d *device) (bool, error) {
	if !c.locked {
		ok, err := d.lock(unix.LOCK_SH)
		if err != nil || !ok {
			return !ok, err
		}
	}
	return isTaken(d.Name())
}

// signature returns what is remembered of the device, or probes it.
func (c *contents) signature(ctx context.Context, d *device, b block, identity string) (signature, error) {
	c.mu.Lock()
	last, ok := c.known[b.name]
	c.mu.Unlock()
	if ok && last.identity == identity {
		return last.found, nil
	}
	found, err := c.probe(ctx, d)
	if err != nil {
		return signature{}, err
	}
	c.mu.Lock()
	c.known[b.name] = memory{identity, found}
	c.mu.Unlock()
	return found, nil
}

// identity names a device together with what it holds.
func identity(b block, head, tail []byte) string {
	hash := sha256.New()
	hash.Write(head)
	hash.Write(tail)
	return fmt.Sprintf("%s/%s/%d/%x", b.number, b.sequence, b.size, hash.Sum(nil))
}

var zeros = make([]byte, 64<<10)

func isZero(data []byte) bool {
	for part := range slices.Chunk(data, len(zeros)) {
		if !bytes.Equal(part, zeros[:len(part)]) {
			return false
		}
	}
	return true
}
