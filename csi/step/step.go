// Package step keeps, in a call's context, the name of what the call does at the
// moment, so that whoever waits for it can be told.
package step

import (
	"context"
	"strings"
	"sync"
	"time"
)

// Tracker holds the step that a call is in. Its methods may be called at once
// and on nil.
type Tracker struct {
	mu      sync.Mutex
	name    string
	since   time.Time
	cluster string
}

type key struct{}

// With returns a context that carries a tracker.
func With(ctx context.Context, t *Tracker) context.Context {
	return context.WithValue(ctx, key{}, t)
}

// Enter notes in the context's tracker that a step begins.
func Enter(ctx context.Context, name string) {
	t, _ := ctx.Value(key{}).(*Tracker)
	t.Enter(name)
}

// Keep returns what enters the context's present step again, after others.
func Keep(ctx context.Context) func() {
	t, _ := ctx.Value(key{}).(*Tracker)
	if t == nil {
		return func() {}
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	name := t.name
	return func() { t.Enter(name) }
}

// Cluster notes which cluster the context's call works with.
func Cluster(ctx context.Context, fsid string) {
	if t, _ := ctx.Value(key{}).(*Tracker); t != nil {
		t.mu.Lock()
		defer t.mu.Unlock()
		t.cluster = fsid
	}
}

// Enter notes that a step begins.
func (t *Tracker) Enter(name string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.name, t.since = name, time.Now()
}

// Now returns the step, with the cluster, and for how long the call has been in it.
func (t *Tracker) Now() (name string, in time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.name == "" {
		return "start", 0
	}
	name = t.name
	if t.cluster != "" && !strings.Contains(name, t.cluster) {
		name += " (cluster " + t.cluster + ")"
	}
	return name, time.Since(t.since).Round(time.Millisecond)
}
