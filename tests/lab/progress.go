package lab

import (
	"fmt"
	"io"
	"os"
	"sync"
	"time"
)

// Output is where progress goes, one line a step.
var Output io.Writer = os.Stderr

type progress struct {
	mu    sync.Mutex
	began time.Time
}

func newProgress() *progress { return &progress{began: time.Now()} }

// run does one step and says how long it took.
func (p *progress) run(what string, step func() error) error {
	began := time.Now()
	err := step()
	result := ""
	if err != nil {
		result = "  FAILED"
		err = fmt.Errorf("%s: %w", what, err)
	}
	p.line("%-44s %6.1fs%s", what, time.Since(began).Seconds(), result)
	return err
}

func (p *progress) done(what string) { p.line("%s", what) }

func (p *progress) line(format string, args ...any) {
	p.mu.Lock()
	defer p.mu.Unlock()
	_, _ = fmt.Fprintf(Output, "[%5.1fs] %s\n", time.Since(p.began).Seconds(), fmt.Sprintf(format, args...))
}
