// Package process are the two processes of a node's data path in user space: the
// attach process, which may end at any time, and the keeper, which holds what must
// outlive it.
package process

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach/fuse"
	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// StateDir is the directory of the driver's own state on a node. Of the attach
// process nothing is there but what it cleans up after a crash; secrets never are.
type StateDir string

// AttachSocket is where the attach process is commanded.
func (d StateDir) AttachSocket() string { return filepath.Join(d.attachments(), "attach.sock") }

func (d StateDir) attachments() string  { return filepath.Join(string(d), "attach") }
func (d StateDir) keeperSocket() string { return filepath.Join(string(d), "keeper", "keeper.sock") }
func (d StateDir) keeperLock() string   { return filepath.Join(string(d), "keeper", "keeper.lock") }
func (d StateDir) attachLock() string   { return filepath.Join(string(d), "keeper", "attach.lock") }

// Keeper holds descriptors until the context ends. Volumes do not notice its end
// while the attach process lives: the next keeper gets all anew.
func Keeper(ctx context.Context, dir StateDir) error {
	if err := keeper.Lock(ctx, dir.keeperLock()); err != nil {
		return err
	}
	listener, err := keeper.Listen(dir.keeperSocket())
	if err != nil {
		return err
	}
	klog.InfoS("Serving", "socket", dir.keeperSocket())
	if err := new(keeper.Server).Serve(ctx, listener); err != nil {
		return fmt.Errorf("keeper: %w", err)
	}
	return nil
}

// Attach goes on with the volumes of the attach process before it, and serves until
// it is asked to stop. Then it drains all volumes and leaves them to the next.
func Attach(stop context.Context, dir StateDir, connector ceph.Connector, http string) error {
	store := &keeper.Client{Socket: dir.keeperSocket()}
	if err := fuse.Succeed(stop, dir.attachLock(), store); err != nil {
		return err
	}
	attacher := &fuse.Attacher{Dir: dir.attachments(), Connector: connector, Keeper: store}
	if err := attacher.Adopt(stop); err != nil {
		// What cannot be cleaned now is in nobody's way: each volume has its own place.
		klog.ErrorS(err, "Not everything that an earlier process left is in order")
	}
	// The signal ends nothing by itself.
	serving, end := context.WithCancel(context.WithoutCancel(stop))
	defer end()
	go store.Follow(serving)
	listener, err := server.Listen(serving, dir.AttachSocket())
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), attacher.Metrics())
	group, serving := errgroup.WithContext(serving)
	group.Go(func() error { return web.ServeOn(serving, listener, remote.Handler(attacher)) })
	group.Go(func() error { return web.Serve(serving, http, web.Handler(registry, store.Holds)) })
	group.Go(func() error { defer end(); return leave(serving, stop, attacher) })
	klog.InfoS("Serving", "socket", listener.Addr().String())
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("attach process: %w", err)
	}
	return nil
}

func leave(serving, stop context.Context, attacher *fuse.Attacher) error {
	select {
	case <-stop.Done():
	case <-serving.Done():
		return nil
	}
	devices, err := attacher.List(serving)
	klog.InfoS("Asked to stop: handing over", "attached", len(devices))
	return errors.Join(err, attacher.Leave(serving))
}
