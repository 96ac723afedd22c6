package server

import (
	"context"
	"fmt"
	"path"
	"runtime/debug"
	"strconv"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/status"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/step"
)

// streams is the chain of calls that answer with a stream: the same as for other
// calls, save that no two are joined.
func streams(seconds *prometheus.HistogramVec, slow time.Duration) grpc.StreamServerInterceptor {
	return func(srv any, stream grpc.ServerStream, info *grpc.StreamServerInfo, handle grpc.StreamHandler) error {
		start, method := time.Now(), path.Base(info.FullMethod)
		logger := klog.FromContext(stream.Context()).WithValues("call", method, "id", strconv.FormatUint(requests.Add(1), 36))
		tracker := &step.Tracker{}
		timer := time.AfterFunc(slow, func() {
			name, in := tracker.Now()
			logger.Info("Call is slow", "running", slow, "step", name, "inStep", in)
		})
		defer timer.Stop()
		ctx, cancel := early(step.With(klog.NewContext(stream.Context(), logger), tracker))
		defer cancel()
		err := recoverStream(srv, trackedStream{stream, ctx}, handle)
		if err != nil {
			err = status.Error(Code(err), unanswered(tracker, err).Error())
			logger.Info("Call failed", "took", time.Since(start).Round(time.Millisecond), "code", status.Code(err), "reason", status.Convert(err).Message())
		}
		seconds.WithLabelValues(method, status.Code(err).String()).Observe(time.Since(start).Seconds())
		return err
	}
}

// trackedStream is a stream whose context tells its steps.
type trackedStream struct {
	grpc.ServerStream
	ctx context.Context
}

func (t trackedStream) Context() context.Context { return t.ctx }

func recoverStream(srv any, stream grpc.ServerStream, handle grpc.StreamHandler) (err error) {
	defer func() {
		if p := recover(); p != nil {
			klog.FromContext(stream.Context()).Error(nil, "Call panicked", "panic", p, "stack", string(debug.Stack()))
			err = fmt.Errorf("the driver panicked: %v", p)
		}
	}()
	return handle(srv, stream)
}
