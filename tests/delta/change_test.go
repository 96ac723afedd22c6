package delta

import (
	"fmt"
	"math"
	"math/rand/v2"
	"os"
	"strconv"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// random chooses changes. The same seed makes the same.
type random struct {
	*rand.Rand
	fill *rand.ChaCha8
	seed uint64
}

// newRandom takes its seed from CAIRN_DELTA_SEED, or a new one.
func newRandom(t *testing.T) *random {
	seed := uint64(time.Now().UnixNano())
	if given := os.Getenv("CAIRN_DELTA_SEED"); given != "" {
		var err error
		seed, err = strconv.ParseUint(given, 10, 64)
		require.NoError(t, err)
	}
	t.Logf("again with CAIRN_DELTA_SEED=%d", seed)
	var key [32]byte
	copy(key[:], strconv.FormatUint(seed, 10))
	return &random{rand.New(rand.NewPCG(seed, 1)), rand.NewChaCha8(key), seed}
}

// between is a number from low to high, small ones as likely as great ones.
func (r *random) between(low, high float64) int64 {
	return int64(low * math.Exp(r.Float64()*math.Log(high/low)))
}

// place chooses where a change of a length begins: anywhere, at the image's ends,
// or across the border of two objects.
func (r *random) place(size, length, unit int64) int64 {
	last := size - length
	at := r.Int64N(last + 1)
	switch r.IntN(12) {
	case 0:
		at = 0
	case 1:
		at = last
	case 2, 3:
		at = r.Int64N(size/object)*object - r.Int64N(length+1)
	}
	return min(max(0, at), last) / unit * unit
}

// kinds of changes, each as often as it is here.
var kinds = []func(*volume, *random) error{
	aligned, aligned, aligned, aligned, aligned, aligned, aligned, aligned, odd, odd, odd,
	same, zeroes, zeroes, oddZeroes, discard, oddDiscard, discardUnused, discardObjects, writeAndDiscard,
}

// change changes a volume at random, and notes what it did.
func (v *volume) change(t *testing.T, r *random) {
	kind := r.IntN(len(kinds))
	require.NoError(t, kinds[kind](v, r), "change of kind %d", kind)
}

func (v *volume) put(p []byte, offset int64) error {
	v.content.write(p, offset)
	if _, err := v.image.WriteAt(p, offset); err != nil {
		return fmt.Errorf("write %d bytes at %d: %w", len(p), offset, err)
	}
	return nil
}

func (v *volume) clear(offset, length int64) error {
	v.content.zero(offset, length)
	if err := v.image.WriteZeroes(offset, length); err != nil {
		return fmt.Errorf("write %d zeroes at %d: %w", length, offset, err)
	}
	return nil
}

func (v *volume) free(offset, length int64) error {
	v.content.zero(zeroed(offset, length, v.trim))
	if err := v.image.Discard(offset, length); err != nil {
		return fmt.Errorf("discard %d bytes at %d: %w", length, offset, err)
	}
	return nil
}

func (r *random) bytes(length int64) []byte {
	p := make([]byte, length)
	_, _ = r.fill.Read(p) // never fails
	return p
}

func (r *random) length(unit int64, most float64) int64 {
	return max(unit, r.between(float64(sector), most)/unit*unit)
}

func aligned(v *volume, r *random) error {
	length := r.length(sector, float64(mib))
	return v.put(r.bytes(length), r.place(v.size, length, sector))
}

func odd(v *volume, r *random) error {
	length := r.between(1, float64(256*kib))
	return v.put(r.bytes(length), r.place(v.size, length, 1))
}

// same writes what is there already.
func same(v *volume, r *random) error {
	length := r.length(sector, float64(256*kib))
	offset := r.place(v.size, length, sector)
	return v.put(append([]byte(nil), v.data[offset:offset+length]...), offset)
}

func zeroes(v *volume, r *random) error {
	length := r.length(block, float64(8*mib))
	return v.clear(r.place(v.size, length, block), length)
}

func oddZeroes(v *volume, r *random) error {
	length := r.length(sector, float64(mib))
	return v.clear(r.place(v.size, length, 1), length)
}

func discard(v *volume, r *random) error {
	length := r.length(64*kib, float64(8*mib))
	return v.free(r.place(v.size, length, 64*kib), length)
}

func oddDiscard(v *volume, r *random) error {
	length := r.between(1, float64(8*mib))
	return v.free(r.place(v.size, length, 1), length)
}

func discardObjects(v *volume, r *random) error {
	length := (1 + r.Int64N(2)) * object
	return v.free(r.place(v.size, length, object), length)
}

// discardUnused frees what was never written, should there be such an object.
func discardUnused(v *volume, r *random) error {
	start := r.Int64N(v.size / object)
	for n := range v.size / object {
		at := (start + n) % (v.size / object) * object
		if !v.written.holds(at, at+object) {
			return v.free(at, object)
		}
	}
	return nil
}

// writeAndDiscard leaves no trace where nothing was before.
func writeAndDiscard(v *volume, r *random) error {
	at := r.place(v.size, object, object)
	if err := v.put(r.bytes(64*kib), at); err != nil {
		return err
	}
	return v.free(at, object)
}
