// Package crash ends the driver's processes at every boundary of a call to what
// they work with, and compares what comes of it with a run without a fault.
package crash

import (
	"io"
	"runtime"
	"slices"
	"sync"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

//go:generate go run ./generate

// Fault is what happens at a boundary.
type Fault string

// The faults.
const (
	// Kill ends the process: nothing that it would have done after happens.
	Kill Fault = "kill"
	// Fail lets the process live, and the call return an error: before it has
	// done anything, or after, when only its answer is lost.
	Fail Fault = "fail"
)

// plan says where the faults are. It counts the boundaries of all processes.
type plan struct {
	fault Fault

	mu    sync.Mutex
	at    []int // boundaries, from 1; each counts from the one before
	count int
	armed bool
	where []string // the boundaries that were hit
	hit   chan struct{}

	// over is closed when nobody looks any more.
	over chan struct{}
}

func newPlan(fault Fault, at ...int) *plan {
	return &plan{fault: fault, at: at, hit: make(chan struct{}), over: make(chan struct{})}
}

// arm begins, or ends, the counting.
func (p *plan) arm(on bool) {
	p.mu.Lock()
	defer p.mu.Unlock()
	p.armed = on
}

// reached returns the boundaries that were hit.
func (p *plan) reached() []string {
	p.mu.Lock()
	defer p.mu.Unlock()
	return slices.Clone(p.where)
}

// next returns what is closed when the next fault happens.
func (p *plan) next() <-chan struct{} {
	p.mu.Lock()
	defer p.mu.Unlock()
	return p.hit
}

// pass counts a boundary of a process and reports whether a fault is there. Whoever
// hears of it finds the process dead.
func (p *plan) pass(l *life, name string) bool {
	p.mu.Lock()
	defer p.mu.Unlock()
	if !p.armed || len(p.at) == 0 {
		return false
	}
	p.count++
	if p.count != p.at[0] {
		return false
	}
	p.at, p.count = p.at[1:], 0
	p.where = append(p.where, name)
	if p.fault == Kill {
		l.end()
	}
	close(p.hit)
	p.hit = make(chan struct{})
	return true
}

// life is one run of a process, from its start to its end.
type life struct {
	plan *plan
	died chan struct{} // closed at its end
	once sync.Once

	mu   sync.Mutex
	open []io.Closer // what the cluster closes for a client that is gone
}

func newLife(p *plan) *life { return &life{plan: p, died: make(chan struct{})} }

// lost is the error of a call that a fault was planted in.
func lost(name string) error { return ceph.Errorf(ceph.Timeout, name, "planted: no answer") }

// boundary ends the process when the fault is here. What a dead process calls
// never returns, so that nothing after it happens: no error path, no deferred call.
func (l *life) boundary(name string) (failed bool) {
	if l.isDead() {
		l.rest()
	}
	if !l.plan.pass(l, name) {
		return false
	}
	if l.plan.fault == Kill {
		l.rest()
	}
	return true
}

// rest keeps what runs of a dead process from going on, until the world ends.
func (l *life) rest() {
	<-l.plan.over
	runtime.Goexit()
}

func (l *life) isDead() bool {
	select {
	case <-l.died:
		return true
	default:
		return false
	}
}

// end ends the process.
func (l *life) end() { l.once.Do(func() { close(l.died) }) }

// bury closes what a dead process had open in the cluster, as the cluster does
// once its watches run out.
func (l *life) bury() {
	l.end()
	l.mu.Lock()
	defer l.mu.Unlock()
	for _, c := range l.open {
		_ = c.Close()
	}
}

// keep remembers what a process opened.
func keep[T io.Closer](l *life, opened T) T {
	l.mu.Lock()
	defer l.mu.Unlock()
	l.open = append(l.open, opened)
	return opened
}

// call passes the boundaries before and after a call that may fail.
func (l *life) call(name string, f func() error) error {
	if l.boundary("before " + name) {
		return lost(name)
	}
	err := f()
	if l.boundary("after " + name) {
		return lost(name)
	}
	return err
}

// must passes the boundaries of a call that cannot fail.
func (l *life) must(name string, f func()) {
	l.boundary("before " + name)
	f()
	l.boundary("after " + name)
}
