// Package step keeps, in a call's context, the name of what the call does at the
// moment, so that whoever waits for it can be told.
package step

import (
	"context"
	"sync"
	"time"
)

// Tracker holds the step that a call is in. Its methods may be called at once
// and on nil.
type Tracker struct {
	mu    sync.Mutex
	name  string
	since time.Time
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

// Enter notes that a step begins.
func (t *Tracker) Enter(name string) {
	if t == nil {
		return
	}
	t.mu.Lock()
	defer t.mu.Unlock()
	t.name, t.since = name, time.Now()
}

// Now returns the step and for how long the call has been in it.
func (t *Tracker) Now() (name string, in time.Duration) {
	t.mu.Lock()
	defer t.mu.Unlock()
	if t.name == "" {
		return "start", 0
	}
	return t.name, time.Since(t.since).Round(time.Millisecond)
}
