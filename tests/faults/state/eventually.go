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
	var first error
	for {
		err := f()
		if err == nil {
			return nil
		}
		if first == nil {
			first = err
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("it fails still: %w\nat first: %w", err, first)
		case <-tick.C:
		}
	}
}
