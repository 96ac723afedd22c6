package server

import (
	"context"
	"fmt"
	"path"
	"time"

	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"

	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// margin before a caller's deadline: what a call was busy with reaches its caller
// only if it is said in time.
func margin(left time.Duration) time.Duration { return min(left/10, time.Second) }

// early ends a context shortly before the caller's own deadline.
func early(ctx context.Context) (context.Context, context.CancelFunc) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return context.WithCancel(ctx)
	}
	return context.WithDeadline(ctx, deadline.Add(-margin(time.Until(deadline))))
}

type answer struct {
	resp any
	err  error
}

// endEarly answers shortly before the caller gives up, whatever the call is in: the
// kernel may hold it for as long as a device does not answer. Such a call goes on,
// and its repeat joins it.
func endEarly(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	deadline, ok := ctx.Deadline()
	if !ok {
		return handle(ctx, req)
	}
	tracker := &step.Tracker{}
	inner, cancel := early(context.WithValue(ctx, callKey{}, tracker))
	answers := make(chan answer, 1)
	go func() {
		defer cancel()
		resp, err := handle(inner, req)
		answers <- answer{resp, err}
	}()
	left := time.Until(deadline)
	timer := time.NewTimer(left - margin(left)/2)
	defer timer.Stop()
	select {
	case a := <-answers:
		return a.resp, a.err
	case <-ctx.Done():
		return nil, ctx.Err() // nobody listens any more
	case <-timer.C:
	}
	name, in := tracker.Now()
	return nil, &ceph.Error{Kind: ceph.Timeout, Op: path.Base(info.FullMethod),
		Err: fmt.Errorf("still busy, for %s in the step: %s", in, name)}
}

// unanswered says in which step, and of which cluster, something did not answer.
func unanswered(t *step.Tracker, err error) error {
	if code := Code(err); code != codes.DeadlineExceeded && code != codes.Unavailable {
		return err
	}
	name, _ := t.Now()
	return fmt.Errorf("no answer in the step: %s: %w", name, err)
}

// noteCluster notes the cluster of the volume that a request is about.
func noteCluster(ctx context.Context, req any) {
	if r, ok := req.(interface{ GetVolumeId() string }); ok {
		if id, err := volumeid.Parse(r.GetVolumeId()); err == nil {
			step.Cluster(ctx, id.FSID)
		}
	}
}
