package server

import (
	"context"
	"fmt"
	"path"
	"runtime/debug"
	"strconv"
	"sync/atomic"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/protosanitizer"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/step"
)

var requests atomic.Uint64

// identify gives each call a number that its log lines carry, and its method.
func identify(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	id := strconv.FormatUint(requests.Add(1), 36)
	logger := klog.FromContext(ctx).WithValues("call", path.Base(info.FullMethod), "id", id)
	return handle(klog.NewContext(ctx, logger), req)
}

// histogram keeps how long calls take, by method and code.
func histogram(registry prometheus.Registerer) *prometheus.HistogramVec {
	seconds := prometheus.NewHistogramVec(prometheus.HistogramOpts{
		Name:    "cairn_csi_call_seconds",
		Help:    "Time that CSI calls took, by method and gRPC code.",
		Buckets: []float64{.005, .01, .025, .05, .1, .25, .5, 1, 2.5, 5, 10, 30, 60, 120},
	}, []string{"method", "code"})
	if registry != nil {
		registry.MustRegister(seconds)
	}
	return seconds
}

// measure keeps how long a call takes.
func measure(seconds *prometheus.HistogramVec) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		start := time.Now()
		resp, err := handle(ctx, req)
		seconds.WithLabelValues(path.Base(info.FullMethod), status.Code(err).String()).Observe(time.Since(start).Seconds())
		return resp, err
	}
}

// logCalls logs each call with its request, secrets stripped. What only asks is
// logged at a higher verbosity.
func logCalls(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	logger := klog.FromContext(ctx)
	start := time.Now()
	resp, err := handle(ctx, req)
	took := time.Since(start).Round(time.Millisecond)
	switch {
	case err != nil:
		logger.Info("Call failed", "took", took, "code", status.Code(err), "reason", status.Convert(err).Message(), "request", protosanitizer.StripSecrets(req))
	case !changes(req):
		logger.V(4).Info("Call done", "took", took)
	default:
		logger.Info("Call done", "took", took, "request", protosanitizer.StripSecrets(req))
	}
	return resp, err
}

// recoverPanics turns a panic into an error of its call.
func recoverPanics(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (resp any, err error) {
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(ctx).Error(nil, "Call panicked", "panic", p, "stack", string(debug.Stack()))
			resp, err = nil, fmt.Errorf("the driver panicked: %v", p)
		}
	}()
	return handle(ctx, req)
}

// logSlow logs a call that takes long while it still runs, with its step.
func logSlow(after time.Duration) grpc.UnaryServerInterceptor {
	return func(ctx context.Context, req any, _ *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
		tracker := tracked(ctx)
		timer := time.AfterFunc(after, func() {
			name, in := tracker.Now()
			klog.FromContext(ctx).Info("Call is slow", "running", after, "step", name, "inStep", in)
		})
		defer timer.Stop()
		ctx = step.With(ctx, tracker)
		noteCluster(ctx, req)
		resp, err := handle(ctx, req)
		return resp, unanswered(tracker, err)
	}
}
