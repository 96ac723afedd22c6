package server

import (
	"context"
	"fmt"
	"path"
	"sync"
	"sync/atomic"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/protobuf/proto"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
)

// calls are those that are in flight: at most one a volume runs. A repeat of the
// one that runs waits for it and gets its answer; any other waits for its turn.
type calls struct {
	mu      sync.Mutex
	running map[string]*call
}

// call is one that runs.
type call struct {
	method  string
	req     proto.Message
	started time.Time
	tracker *step.Tracker
	waiters atomic.Int32

	done chan struct{} // closed when the fields below are set
	resp any
	err  error
	// cut: the caller's own deadline ended it, so that its error says nothing
	// to another.
	cut bool
}

func newCalls() *calls { return &calls{running: map[string]*call{}} }

type callKey struct{}

// tracked returns the tracker that whoever waits for this call looks at.
func tracked(ctx context.Context) *step.Tracker {
	if t, ok := ctx.Value(callKey{}).(*step.Tracker); ok {
		return t
	}
	return &step.Tracker{}
}

func (c *calls) join(ctx context.Context, req any, info *grpc.UnaryServerInfo, handle grpc.UnaryHandler) (any, error) {
	key := keyOf(req)
	if key == "" {
		return handle(ctx, req)
	}
	message, _ := req.(proto.Message)
	mine := &call{method: path.Base(info.FullMethod), req: message, started: time.Now(), tracker: tracked(ctx), done: make(chan struct{})}
	for {
		other := c.claim(key, mine)
		if other == nil {
			return c.run(ctx, key, mine, handle)
		}
		if err := other.wait(ctx, mine.method); err != nil {
			return nil, err
		}
		if other.answers(mine) {
			return other.resp, other.err
		}
	}
}

// claim makes a call the one that runs for a key, or returns the one that does.
func (c *calls) claim(key string, mine *call) *call {
	c.mu.Lock()
	defer c.mu.Unlock()
	if other := c.running[key]; other != nil {
		return other
	}
	c.running[key] = mine
	return nil
}

func (c *calls) run(ctx context.Context, key string, mine *call, handle grpc.UnaryHandler) (any, error) {
	mine.err = fmt.Errorf("the driver panicked in %s", mine.method) // unless handle returns
	defer func() {
		mine.cut = ctx.Err() != nil
		c.mu.Lock()
		delete(c.running, key)
		c.mu.Unlock()
		close(mine.done)
	}()
	mine.resp, mine.err = handle(context.WithValue(ctx, callKey{}, mine.tracker), mine.req)
	return mine.resp, mine.err
}

// answers reports whether a finished call's answer serves another call too.
func (c *call) answers(other *call) bool {
	return c.method == other.method && proto.Equal(c.req, other.req) && (c.err == nil || !c.cut)
}

// wait waits for a call to end, until shortly before the own deadline: what
// the other is busy with reaches the caller only if it is said in time.
func (c *call) wait(ctx context.Context, method string) error {
	c.waiters.Add(1)
	defer c.waiters.Add(-1)
	expire := make(<-chan time.Time)
	if deadline, ok := ctx.Deadline(); ok {
		left := time.Until(deadline)
		timer := time.NewTimer(left - margin(left))
		defer timer.Stop()
		expire = timer.C
	}
	select {
	case <-c.done:
		return nil
	case <-ctx.Done():
	case <-expire:
	}
	name, in := c.tracker.Now()
	return fault.Errorf(fault.Pending, "%s waits for %s of the same volume, which runs since %s and is for %s in the step: %s",
		method, c.method, c.started.UTC().Format(time.RFC3339), in, name)
}

// keyOf returns what calls are put in line by; empty for those that need no line.
func keyOf(req any) string {
	switch r := req.(type) {
	case *csi.CreateVolumeRequest:
		return line("name/", r.GetName())
	case *csi.CreateSnapshotRequest:
		return line("snapshot-name/", r.GetName())
	case *csi.DeleteSnapshotRequest:
		return line("snapshot/", r.GetSnapshotId())
	case *csi.CreateVolumeGroupSnapshotRequest:
		return line("group-name/", r.GetName())
	case *csi.DeleteVolumeGroupSnapshotRequest:
		return line("group/", r.GetGroupSnapshotId())
	case *csi.NodeGetVolumeStatsRequest, *csi.ValidateVolumeCapabilitiesRequest,
		*csi.ControllerGetVolumeRequest, *csi.ControllerGetVolumeHealthRequest, *csi.NodeGetVolumeHealthRequest:
		return ""
	case interface{ GetVolumeId() string }:
		return line("volume/", r.GetVolumeId())
	}
	return ""
}

func line(prefix, name string) string {
	if name == "" {
		return ""
	}
	return prefix + name
}

// changes reports whether a call may change something.
func changes(req any) bool { return keyOf(req) != "" }
