package rados

import (
	"context"
	"sync"
	"syscall"
)

// report passes what librbd's callbacks say to a caller who may have gone: none
// comes once end returned, and librbd is told to stop.
type report struct {
	ctx   context.Context
	mu    sync.Mutex
	ended bool
	err   error
}

func newReport(ctx context.Context) *report { return &report{ctx: ctx} }

// do runs f for the caller and returns what librbd's callbacks return.
func (r *report) do(f func() error) int {
	r.mu.Lock()
	defer r.mu.Unlock()
	if r.err == nil {
		r.err = r.ctx.Err()
	}
	if r.err == nil && !r.ended {
		r.err = f()
	}
	if r.err != nil || r.ended {
		return -int(syscall.ECANCELED)
	}
	return 0
}

// failed returns the error that the caller's function, or its context, ended with.
func (r *report) failed() error {
	r.mu.Lock()
	defer r.mu.Unlock()
	return r.err
}

func (r *report) end() {
	r.mu.Lock()
	defer r.mu.Unlock()
	r.ended = true
}
