package main

import (
	"context"
	"fmt"

	"github.com/google/uuid"

	"github.com/cairn-storage/cairn/tests/bench/result"
)

// calls compares the Controller's calls with the fewest calls of librbd that
// could do the same, and counts what they ask of the OSDs.
func calls(ctx context.Context, b *bed, report func(...result.Entry)) error {
	const callers = 32
	d, err := startDriver(ctx, b)
	if err != nil {
		return err
	}
	defer d.end()
	f, err := startBare(b, callers)
	if err != nil {
		return err
	}
	defer f.end()
	operations := []operation{
		{"create", side{nil, d.create}, side{nil, f.create}},
		{"delete", side{d.create, d.delete}, side{f.create, f.delete}},
		{"snapshot", side{d.create, d.snap}, side{f.create, f.snap}},
		{"clone", side{d.create, d.clone}, side{f.create, f.clone}},
		{"restore", side{d.createAndSnap, d.restore}, side{f.createAndSnap, f.restore}},
	}
	for _, o := range operations {
		if err := f.count(ctx, o, report); err != nil {
			return err
		}
	}
	for _, o := range operations {
		loads := []load{{1, 60, true}, {callers, 256, true}}
		if o.name == "create" {
			loads = append(loads, load{16, 320, true})
		}
		for _, l := range loads {
			if err := b.compare(ctx, "calls", o, l, report); err != nil {
				return err
			}
		}
	}
	return nil
}

// count reports how many operations the OSDs carried out for one call, by their
// own counters, as the mean of some calls.
func (f *bare) count(ctx context.Context, o operation, report func(...result.Entry)) error {
	const each = 20
	ours, err := f.countSide(ctx, o.ours, each)
	if err != nil {
		return fmt.Errorf("count %s: %w", o.name, err)
	}
	floor, err := f.countSide(ctx, o.floor, each)
	if err != nil {
		return fmt.Errorf("count %s: %w", o.name, err)
	}
	report(result.New("calls", o.name+"_rados_ops", "operations", ours,
		"mean of %d calls, from the OSDs' own counters; the floor needs %.3g", each, floor))
	return nil
}

func (f *bare) countSide(ctx context.Context, s side, n int) (float64, error) {
	var items []item
	for range n {
		items = append(items, item{0, "pvc-" + uuid.NewString()})
	}
	one := [][]item{items}
	if s.prepare != nil {
		if _, err := each(ctx, one, s.prepare); err != nil {
			return 0, err
		}
	}
	before, err := f.operations(osds)
	if err != nil {
		return 0, err
	}
	if _, err := each(ctx, one, s.run); err != nil {
		return 0, err
	}
	after, err := f.operations(osds)
	return float64(after-before) / float64(n), err
}
