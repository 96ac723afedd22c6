package delta

import (
	"testing"

	"github.com/stretchr/testify/require"
)

// chain restores a snapshot, changes the volume, makes a snapshot of it and
// restores that, and so on: each volume's allocated extents have its parents'
// data, each delta only what was changed in between; so too once it was flattened.
func (b *bed) chain(t *testing.T) {
	r := newRandom(t)
	v := b.create(t, newContent(t, 64*mib, 128*mib), "")
	for generation := range 4 {
		if generation > 0 {
			v = v.restore(t, v.snapshot(t))
			first := v.snapshot(t)
			require.NotEmpty(t, v.requireAllocated(t, first, r.Int64N(v.size)), "the parent's data")
			v.requireHolds(t, first, nil)
		}
		v.requireSteps(t, r, 3)
		if generation == 2 {
			v.grow(t, v.size+growth)
		}
	}
	v.requireFlattened(t, r)
}

// requireSteps changes the volume between snapshots, and checks each delta.
func (v *volume) requireSteps(t *testing.T, r *random, steps int) {
	last := v.snapshot(t)
	v.begin()
	for range steps {
		for range r.between(5, 60) {
			v.change(t, r)
		}
		next := v.snapshot(t)
		v.requireDelta(t, r, last, next, &counts{})
		v.requireAllocated(t, next, r.Int64N(v.size))
		v.requireHolds(t, next, nil)
		v.requireHolds(t, last, v.before)
		last = next
		v.begin()
	}
}

// requireFlattened flattens a clone between two snapshots: deltas before, across
// and after are right. What a clone freed of its parent's data may count as allocated
// before.
func (v *volume) requireFlattened(t *testing.T, r *random) {
	early := v.snapshot(t)
	v.begin()
	v.change(t, r)
	base := v.snapshot(t)
	before := v.requireDelta(t, r, early, base, &counts{})
	allocated := v.requireAllocated(t, base, 0)
	v.begin()
	require.NoError(t, v.conn.FlattenImage(t.Context(), v.ref, nil))
	for range 20 {
		v.change(t, r)
	}
	target := v.snapshot(t)
	v.requireDelta(t, r, base, target, &counts{})
	v.requireAllocated(t, target, 0)
	v.requireHolds(t, base, v.before)
	v.requireHolds(t, target, nil)
	require.Equal(t, before, v.delta(t, early, base, 0, 0), "snapshots from before the flatten")
	now := v.allocated(t, base, 0, 0)
	require.Negative(t, v.past(t).nonZero(now), "this byte of a snapshot from before the flatten is not zero, and not allocated")
	for _, e := range now {
		require.True(t, allocated.coversAll(e.begin, e.end), "%v was not allocated before the flatten", e)
	}
	v.requireSteps(t, r, 2)
}
