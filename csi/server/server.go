// Package server is the gRPC side that the driver's services share: the socket,
// the chain that each call runs through, and the one table of errors.
package server

import (
	"context"
	"fmt"
	"net"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"k8s.io/klog/v2"
)

// Options of a server.
type Options struct {
	// Metrics takes the server's histograms; nil keeps none.
	Metrics prometheus.Registerer
	// Slow is after what time a call that still runs is logged, with the step
	// that it is in. Zero is DefaultSlow.
	Slow time.Duration
}

// DefaultSlow is when a call counts as slow.
const DefaultSlow = 5 * time.Second

// stopGrace is how long calls in flight may go on when the server stops.
const stopGrace = 20 * time.Second

// New makes a gRPC server whose calls run through the chain. Services are
// registered on it before it serves.
func New(options Options) *grpc.Server {
	if options.Slow == 0 {
		options.Slow = DefaultSlow
	}
	seconds := histogram(options.Metrics)
	return grpc.NewServer(grpc.ChainStreamInterceptor(streams(seconds, options.Slow)), grpc.ChainUnaryInterceptor(
		identify,
		measure(seconds),
		logCalls,
		mapErrors,
		endEarly,
		recoverPanics,
		newCalls().join,
		logSlow(options.Slow),
	))
}

// Serve serves on a unix socket until the context ends.
func Serve(ctx context.Context, s *grpc.Server, socket string) error {
	listener, err := Listen(ctx, socket)
	if err != nil {
		return err
	}
	return ServeOn(ctx, s, listener)
}

// ServeOn serves on a listener until the context ends; calls in flight are
// given time to end.
func ServeOn(ctx context.Context, s *grpc.Server, listener net.Listener) error {
	done := make(chan error, 1)
	go func() { done <- s.Serve(listener) }()
	klog.FromContext(ctx).Info("Serving", "socket", listener.Addr().String())
	select {
	case err := <-done:
		return fmt.Errorf("serve %s: %w", listener.Addr(), err)
	case <-ctx.Done():
	}
	hard := time.AfterFunc(stopGrace, s.Stop)
	defer hard.Stop()
	s.GracefulStop()
	return nil
}
