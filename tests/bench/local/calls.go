package main

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/google/uuid"

	"github.com/cairn-storage/cairn/tests/bench/result"
)

// item is one thing that a call is measured on.
type item struct {
	worker int // which of the callers at once has it
	name   string
}

// side is one way of carrying out an operation: run is measured, prepare makes
// what it needs.
type side struct {
	prepare, run func(context.Context, item) error
}

// operation is what is compared: a call of the driver, and its floor.
type operation struct {
	name        string
	ours, floor side
}

// load is how an operation is called.
type load struct {
	callers, each int
	// p99 is reported too.
	p99 bool
}

const rounds = 5

// compare measures an operation's two sides in turn.
func (b *bed) compare(ctx context.Context, group string, o operation, l load, report func(...result.Entry)) error {
	var p50, p99 comparison
	for round := range rounds + 1 {
		ours, err := measure(ctx, o.ours, l)
		if err != nil {
			return fmt.Errorf("%s by the driver: %w", o.name, err)
		}
		floor, err := measure(ctx, o.floor, l)
		if err != nil {
			return fmt.Errorf("%s by the floor: %w", o.name, err)
		}
		b.say("%s, %d at once, round %d: p50 %.2f / %.2f ms, p99 %.2f / %.2f ms", o.name, l.callers, round,
			result.Median(ours), result.Median(floor), result.Quantile(ours, .99), result.Quantile(floor, .99))
		if round == 0 {
			continue // both sides warm up
		}
		p50.add(result.Median(ours), result.Median(floor))
		p99.add(result.Quantile(ours, .99), result.Quantile(floor, .99))
	}
	report(p50.entry(group, fmt.Sprintf("%s_p50_ratio_c%d", o.name, l.callers), l))
	if l.p99 {
		report(p99.entry(group, fmt.Sprintf("%s_p99_ratio_c%d", o.name, l.callers), l))
	}
	return nil
}

// comparison is what the rounds showed of one quantile, in milliseconds.
type comparison struct{ ours, floor, ratios []float64 }

func (c *comparison) add(ours, floor float64) {
	c.ours, c.floor, c.ratios = append(c.ours, ours), append(c.floor, floor), append(c.ratios, ours/floor)
}

func (c *comparison) entry(group, name string, l load) result.Entry {
	return result.New(group, name, "ratio", result.Median(c.ratios), "%.3g ms over %.3g ms; %d rounds of %d a side, ratios %s",
		result.Median(c.ours), result.Median(c.floor), len(c.ratios), l.each, result.Spread(c.ratios))
}

// measure returns the milliseconds that each call took.
func measure(ctx context.Context, s side, l load) ([]float64, error) {
	items := make([][]item, l.callers)
	for i := range l.each {
		worker := i % l.callers
		items[worker] = append(items[worker], item{worker, "pvc-" + uuid.NewString()})
	}
	if s.prepare != nil {
		if _, err := each(ctx, items, s.prepare); err != nil {
			return nil, fmt.Errorf("prepare: %w", err)
		}
	}
	return each(ctx, items, s.run)
}

// each runs f for every caller's items, one after the other, all callers at once.
func each(ctx context.Context, items [][]item, f func(context.Context, item) error) ([]float64, error) {
	took, errs := make([][]float64, len(items)), make([]error, len(items))
	var group sync.WaitGroup
	for worker := range items {
		group.Go(func() {
			for _, i := range items[worker] {
				began := time.Now()
				if errs[worker] = f(ctx, i); errs[worker] != nil {
					return
				}
				took[worker] = append(took[worker], float64(time.Since(began).Microseconds())/1000)
			}
		})
	}
	group.Wait()
	return slices.Concat(took...), errors.Join(errs...)
}
