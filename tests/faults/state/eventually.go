package state

import (
	"context"
	"fmt"
	"time"
)

// Eventually repeats what fails, until the context ends.
func Eventually(ctx context.Context, f func() error) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	var first, last error
	for {
		err := f()
		if err == nil {
			return nil
		}
		if ctx.Err() == nil || last == nil {
			last = err
		}
		if first == nil {
			first = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it fails still: %w\nat first: %w", last, first)
		case <-tick.C:
		}
	}
}
