package kube

import (
	"context"
	"errors"
	"fmt"
	"time"

	"sigs.k8s.io/controller-runtime/pkg/client"
)

// statusTimeout is how long a status may take that is written after the time for a look is up.
const statusTimeout = 10 * time.Second

// WriteStatus writes what differs in the status of an object from before. That is done also
// when the time for the look is up: what took it is said there.
func WriteStatus(ctx context.Context, c client.Client, object, before client.Object) error {
	if errors.Is(ctx.Err(), context.DeadlineExceeded) {
		var cancel context.CancelFunc
		ctx, cancel = context.WithTimeout(context.WithoutCancel(ctx), statusTimeout)
		defer cancel()
	}
	if err := c.Status().Patch(ctx, object, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("write the status: %w", err)
	}
	return nil
}
