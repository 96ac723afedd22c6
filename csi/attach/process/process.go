// Package process is the process of a node's data path in user space. It may end at
// any time: the keeper holds what must outlive it.
package process

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"path/filepath"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach/fuse"
	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/attach/supervise"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/systemd"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// StateDir is the directory of the driver's own state on a node. Of the attach
// process nothing is there but what it cleans up after a crash; secrets never are.
type StateDir string

// AttachSocket is where the attach process is commanded.
func (d StateDir) AttachSocket() string { return filepath.Join(d.attachments(), "attach.sock") }

func (d StateDir) attachments() string { return filepath.Join(string(d), "attach") }
func (d StateDir) attachLock() string  { return filepath.Join(string(d), "keeper", "attach.lock") }

// Keeper is the keeper's directory.
func (d StateDir) Keeper() keeper.Dir { return keeper.Dir(filepath.Join(string(d), "keeper")) }

// Attach goes on with the volumes of the attach process before it, and serves until
// it is asked to stop. Then it drains all volumes and leaves them to the next; or, where the
// node says below a directory (systemd.Run) that it is shut down, serves until none is in use.
func Attach(stop context.Context, dir StateDir, connector ceph.Connector, systemdRun, address string) error {
	store := &keeper.Client{Socket: dir.Keeper().Socket()}
	if err := fuse.Succeed(stop, dir.attachLock(), store); err != nil {
		return err
	}
	// Before any volume is served: where it fails, they stay with the keeper.
	listener, err := server.Listen(stop, dir.AttachSocket())
	if err != nil {
		return err
	}
	attacher := &fuse.Attacher{Dir: dir.attachments(), Connector: connector, Keeper: store}
	stop, attacher.Again = context.WithCancel(stop)
	defer attacher.Again()
	if err := attacher.Adopt(stop); err != nil {
		return errors.Join(err, listener.Close())
	}
	// The signal ends nothing by itself.
	serving, end := context.WithCancel(context.WithoutCancel(stop))
	defer end()
	go store.Follow(serving)
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), attacher.Metrics(), restarts)
	group, serving := errgroup.WithContext(serving)
	group.Go(func() error { return web.ServeOn(serving, listener, remote.Handler(attacher)) })
	group.Go(func() error { return tell(serving, address, web.Handler(registry, store.Holds)) })
	group.Go(func() error { defer end(); return leave(serving, stop, attacher, systemdRun) })
	klog.InfoS("Serving", "socket", listener.Addr().String())
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("attach process: %w", err)
	}
	return nil
}

// restarts is known from the process's start.
var restarts = prometheus.NewCounterFunc(prometheus.CounterOpts{Name: "cairn_csi_attach_restarts_total",
	Help: "How often the attach process of this pod ended by itself and was started again."}, func() float64 { return float64(supervise.Restarts()) })

// tellRetry is how long to wait before metrics and health are tried to be served again.
const tellRetry = 5 * time.Second

// tell serves metrics and health. Volumes are served also where somebody else has the address.
func tell(ctx context.Context, address string, handler http.Handler) error {
	for {
		err := web.Serve(ctx, address, handler)
		if ctx.Err() != nil {
			return err
		}
		klog.ErrorS(err, "No metrics and health")
		select {
		case <-ctx.Done():
		case <-time.After(tellRetry):
		}
	}
}

// leave hands the volumes over when this process is asked to stop, or can be commanded no more.
func leave(serving, stop context.Context, attacher *fuse.Attacher, systemdRun string) error {
	commanded := serving.Done()
	serving = context.WithoutCancel(serving) // half a hand-over would lose volumes
	select {
	case <-stop.Done():
	case <-commanded:
		return attacher.Leave(serving)
	}
	stopping, err := systemd.Stopping(serving, systemdRun)
	if err != nil {
		klog.ErrorS(err, "Asked to stop: taken for a replacement of this process")
	}
	if stopping {
		return attacher.Outlast(serving)
	}
	devices, err := attacher.List(serving)
	klog.InfoS("Asked to stop: handing over", "attached", len(devices))
	return errors.Join(err, attacher.Leave(serving))
}
