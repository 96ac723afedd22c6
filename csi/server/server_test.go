package server

import (
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"sync/atomic"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/status"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestCode(t *testing.T) {
	for _, c := range []struct {
		err  error
		want codes.Code
	}{
		{nil, codes.OK},
		{fault.Field(fault.Invalid, "name", "is empty"), codes.InvalidArgument},
		{fmt.Errorf("stage: %w", fault.Errorf(fault.Refused, "no")), codes.FailedPrecondition},
		{fault.Errorf(fault.Pending, "busy"), codes.Aborted},
		{fault.Errorf(fault.OutOfRange, "size"), codes.OutOfRange},
		{ceph.Errorf(ceph.Full, "create", "x"), codes.ResourceExhausted},
		{fmt.Errorf("a: %w", ceph.Errorf(ceph.NotFound, "open", "x")), codes.NotFound},
		{ceph.Errorf(ceph.Busy, "remove", "x"), codes.FailedPrecondition},
		{ceph.Errorf(ceph.Timeout, "remove", "x"), codes.DeadlineExceeded},
		{ceph.Errorf(ceph.Fenced, "remove", "x"), codes.Unavailable},
		{context.DeadlineExceeded, codes.DeadlineExceeded},
		{fmt.Errorf("x: %w", context.Canceled), codes.Canceled},
		{status.Error(codes.Unimplemented, "x"), codes.Unimplemented},
		{errors.New("x"), codes.Internal},
		// A fault that explains a Ceph error decides.
		{fault.Errorf(fault.Conflict, "taken: %w", ceph.Errorf(ceph.Invalid, "x", "y")), codes.AlreadyExists},
	} {
		got := Code(c.err)
		if c.err != nil && got == codes.Unknown {
			got = codes.Internal
		}
		require.Equal(t, c.want, got, "%v", c.err)
	}
}

func TestEveryKindHasACode(t *testing.T) {
	for _, k := range []ceph.Kind{ceph.NotFound, ceph.Exists, ceph.Busy, ceph.Full, ceph.Forbidden, ceph.Invalid, ceph.Timeout, ceph.Fenced, ceph.Unreached, ceph.Unexpected} {
		require.Contains(t, byCeph, k)
	}
	for _, k := range []fault.Kind{fault.Invalid, fault.NotFound, fault.Conflict, fault.OutOfRange, fault.Refused, fault.Unavailable, fault.Pending, fault.Exhausted, fault.Stale} {
		require.Contains(t, byFault, k)
	}
}

// gate is a controller whose DeleteVolume waits until it is let go.
type gate struct {
	csi.UnimplementedControllerServer
	entered chan string
	release chan error
	runs    atomic.Int32
	active  atomic.Int32
	overlap atomic.Bool
}

func (g *gate) DeleteVolume(ctx context.Context, req *csi.DeleteVolumeRequest) (*csi.DeleteVolumeResponse, error) {
	if err := g.work(ctx, "delete"); err != nil {
		return nil, err
	}
	return &csi.DeleteVolumeResponse{}, nil
}

func (g *gate) ControllerExpandVolume(ctx context.Context, req *csi.ControllerExpandVolumeRequest) (*csi.ControllerExpandVolumeResponse, error) {
	return &csi.ControllerExpandVolumeResponse{CapacityBytes: 1}, g.work(ctx, "expand")
}

func (g *gate) CreateVolume(context.Context, *csi.CreateVolumeRequest) (*csi.CreateVolumeResponse, error) {
	panic("no such luck")
}

func (g *gate) work(ctx context.Context, what string) error {
	if g.active.Add(1) > 1 {
		g.overlap.Store(true)
	}
	defer g.active.Add(-1)
	g.runs.Add(1)
	step.Enter(ctx, "wait in the "+what)
	g.entered <- what
	return <-g.release
}

func dial(t *testing.T, g *gate) csi.ControllerClient {
	socket := filepath.Join(t.TempDir(), "csi.sock")
	s := New(Options{Metrics: prometheus.NewRegistry(), Slow: time.Millisecond})
	csi.RegisterControllerServer(s, g)
	ctx, cancel := context.WithCancel(context.Background())
	listener, err := Listen(ctx, socket)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- ServeOn(ctx, s, listener) }()
	conn, err := grpc.NewClient("unix:"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(t, err)
	t.Cleanup(func() {
		close(g.release) // whoever waits still
		require.NoError(t, conn.Close())
		cancel()
		require.NoError(t, <-done)
	})
	return csi.NewControllerClient(conn)
}

func newGate() *gate { return &gate{entered: make(chan string, 8), release: make(chan error, 8)} }

// expand calls join as the chain does.
func (g *gate) expand(ctx context.Context, c *calls) error {
	req := &csi.ControllerExpandVolumeRequest{VolumeId: "v"}
	info := &grpc.UnaryServerInfo{FullMethod: "/csi.v1.Controller/ControllerExpandVolume"}
	_, err := c.join(ctx, req, info, func(ctx context.Context, req any) (any, error) {
		return g.ControllerExpandVolume(ctx, req.(*csi.ControllerExpandVolumeRequest))
	})
	return err
}

func (g *gate) start(ctx context.Context, c *calls) chan error {
	done := make(chan error, 1)
	go func() { done <- g.expand(ctx, c) }()
	return done
}

func waiters(t *testing.T, c *calls, n int32) {
	t.Helper()
	require.Eventually(t, func() bool {
		c.mu.Lock()
		defer c.mu.Unlock()
		return c.running["volume/v"] != nil && c.running["volume/v"].waiters.Load() == n
	}, 5*time.Second, time.Millisecond)
}

func TestDuplicatesJoin(t *testing.T) {
	g, c := newGate(), newCalls()
	first := g.start(t.Context(), c)
	<-g.entered
	second, third := g.start(t.Context(), c), g.start(t.Context(), c)
	waiters(t, c, 2)
	g.release <- fault.Errorf(fault.Refused, "not today")
	for _, done := range []chan error{first, second, third} {
		require.ErrorContains(t, <-done, "not today")
	}
	require.Equal(t, int32(1), g.runs.Load())
}

func TestWaiterIsToldTheStep(t *testing.T) {
	g := newGate()
	client := dial(t, g)
	first := make(chan error, 1)
	go func() {
		_, err := client.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "v"})
		first <- err
	}()
	<-g.entered
	ctx, cancel := context.WithTimeout(t.Context(), 3*time.Second)
	defer cancel()
	_, err := client.ControllerExpandVolume(ctx, &csi.ControllerExpandVolumeRequest{VolumeId: "v"})
	require.Equal(t, codes.Aborted, status.Code(err))
	require.ErrorContains(t, err, "DeleteVolume of the same volume")
	require.ErrorContains(t, err, "wait in the delete")
	g.release <- nil
	require.NoError(t, <-first)
}

func TestDifferentCallsTakeTurns(t *testing.T) {
	g := newGate()
	client := dial(t, g)
	results := make(chan error, 2)
	go func() {
		_, err := client.DeleteVolume(t.Context(), &csi.DeleteVolumeRequest{VolumeId: "v"})
		results <- err
	}()
	require.Equal(t, "delete", <-g.entered)
	go func() {
		_, err := client.ControllerExpandVolume(t.Context(), &csi.ControllerExpandVolumeRequest{VolumeId: "v"})
		results <- err
	}()
	g.release <- nil
	require.Equal(t, "expand", <-g.entered)
	g.release <- nil
	require.NoError(t, errors.Join(<-results, <-results))
	require.False(t, g.overlap.Load())
}

// A call whose own caller gave up leaves its error to nobody: the repeat runs anew.
func TestRepeatOfACutCallRunsAnew(t *testing.T) {
	g, c := newGate(), newCalls()
	ctx, cancel := context.WithCancel(t.Context())
	first := g.start(ctx, c)
	<-g.entered
	second := g.start(t.Context(), c)
	waiters(t, c, 1)
	cancel()
	g.release <- context.Canceled
	require.ErrorIs(t, <-first, context.Canceled)
	<-g.entered
	g.release <- nil
	require.NoError(t, <-second)
	require.Equal(t, int32(2), g.runs.Load())
	require.False(t, g.overlap.Load())
}

func TestPanicIsAnError(t *testing.T) {
	client := dial(t, newGate())
	for range 2 { // the second finds no call left in line
		_, err := client.CreateVolume(t.Context(), &csi.CreateVolumeRequest{Name: "x"})
		require.Error(t, err)
		require.ErrorContains(t, err, "panicked")
	}
}

func TestListen(t *testing.T) {
	dir := t.TempDir()
	stale := filepath.Join(dir, "sub", "csi.sock")
	first, err := Listen(t.Context(), stale)
	require.NoError(t, err)
	first.(*net.UnixListener).SetUnlinkOnClose(false)
	require.NoError(t, first.Close())
	second, err := Listen(t.Context(), stale)
	require.NoError(t, err)
	info, err := os.Stat(stale)
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o600), info.Mode().Perm())
	require.NoError(t, second.Close())

	file := filepath.Join(dir, "file")
	require.NoError(t, os.WriteFile(file, []byte("data"), 0o600))
	_, err = Listen(t.Context(), file)
	require.ErrorContains(t, err, "not a socket")
}
