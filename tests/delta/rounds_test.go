package delta

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// plan is how much of the test to run.
type plan struct {
	rounds, readEvery, growEvery, jump int
	size                               int64
}

// TestCeph: a hundred rounds of changes to a volume of 1 GiB on a real Ceph.
func TestCeph(t *testing.T) {
	b := onCeph(t)
	t.Run("rounds", func(t *testing.T) {
		b.rounds(t, plan{rounds: 100, readEvery: 10, growEvery: 33, jump: 50, size: 1 << 30})
	})
	t.Run("chain", b.chain)
	t.Run("refusals", b.refusals)
}

// TestModel runs the same, smaller, on the modelled cluster, so that tests on it
// say something about Ceph.
func TestModel(t *testing.T) {
	b := onModel(t)
	t.Run("rounds", func(t *testing.T) {
		b.rounds(t, plan{rounds: 20, readEvery: 5, growEvery: 7, jump: 5, size: 64 << 20})
	})
	t.Run("chain", b.chain)
	t.Run("refusals", b.refusals)
}

// counts are for the summary.
type counts struct {
	changes               int
	changed, delta, holes int64
	extents               int
}

// rounds changes a volume at random between snapshots, and holds each delta
// against what was changed.
func (b *bed) rounds(t *testing.T, p plan) {
	start := time.Now()
	r := newRandom(t)
	v := b.create(t, newContent(t, p.size, p.size+int64(p.rounds/p.growEvery)*growth), "")
	for range 200 {
		v.change(t, r)
	}
	last := v.snapshot(t)
	v.requireAllocated(t, last, 0)
	daily := newBackup(t, v, last)
	weekly := newBackup(t, v, last)
	old := last
	v.begin()
	var n counts
	for round := 1; round <= p.rounds; round++ {
		if round%p.growEvery == 0 {
			v.grow(t, v.size+growth)
		}
		for range r.between(5, 200) {
			v.change(t, r)
			n.changes++
		}
		next := v.snapshot(t)
		list := v.requireDelta(t, r, last, next, &n)
		daily.add(t, v, next, list)
		if round%p.readEvery == 0 {
			v.requireHolds(t, last, v.before)
			v.requireHolds(t, next, nil)
			v.requireAllocated(t, next, r.Int64N(v.size))
		}
		if round%p.jump == 0 {
			weekly.add(t, v, next, v.delta(t, old, next, 0, 0))
			old = next
		}
		if t.Failed() {
			return
		}
		last = next
		v.begin()
	}
	daily.requireIs(t, v, last)
	weekly.requireIs(t, v, old)
	fmt.Printf("delta: %s, %d rounds, %d changes of a volume of %d MiB: %d bytes differed, 0 of them missed by %d extents of %d MiB (%d MiB of holes below them); both snapshots read back in %d rounds; rebuilt from deltas: same checksum; %.0f s (seed %d)\n",
		b.name, p.rounds, n.changes, v.size/mib, n.changed, n.extents, n.delta/mib, n.holes/mib, p.rounds/p.readEvery, time.Since(start).Seconds(), r.seed)
}

// growth of the volume between some snapshots.
const growth = 16 * mib

// requireDelta holds the delta between the snapshots before and after the changes
// against them, and asks again from an offset, few extents a message.
func (v *volume) requireDelta(t *testing.T, r *random, base, target snapshot, n *counts) sorted {
	list := v.delta(t, base, target, 0, 0)
	missed, changed := v.missed(list)
	require.Negative(t, missed, "this byte differs, and is not in the delta")
	holes, err := v.excess(list, v.touched, v.exact)
	require.NoError(t, err)
	n.extents, n.changed, n.delta, n.holes = n.extents+len(list), n.changed+changed, n.delta+list.bytes(), n.holes+holes

	offset := r.Int64N(v.size + 1)
	if len(list) > 0 && r.IntN(2) == 0 {
		e := list[r.IntN(len(list))]
		offset = []int64{e.begin, e.begin + 1, e.end - 1, e.end}[r.IntN(4)]
	}
	require.Equal(t, list.from(offset), v.delta(t, base, target, offset, 1+r.Int32N(20)), "from %d on", offset)
	return list
}

// requireAllocated holds what a snapshot has allocated against what the volume
// holds, and asks again from an offset.
func (v *volume) requireAllocated(t *testing.T, s snapshot, offset int64) sorted {
	list := v.allocated(t, s, 0, 0)
	require.Negative(t, v.nonZero(list), "this byte is not zero, and not allocated")
	_, err := v.excess(list, v.written, v.exact)
	require.NoError(t, err)
	require.Equal(t, list.from(offset), v.allocated(t, s, offset, 3), "from %d on", offset)
	return list
}
