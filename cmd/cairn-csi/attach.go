package main

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/prometheus/client_golang/prometheus/collectors"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach/fuse"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/protect"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// attachDir is where attachments have their state, and the socket is.
func attachDir(state string) string { return filepath.Join(state, "attach") }

func attachSocket(state string) string { return filepath.Join(attachDir(state), "attach.sock") }

type attachOptions struct{ state, http string }

func attachCommand() *cobra.Command {
	var o attachOptions
	c := &cobra.Command{
		Use:   "attach",
		Short: "Hold this node's attached volumes where the kernel has no rbd",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.Flags().StringVar(&o.state, "state-dir", "/var/lib/cairn/csi", "directory of the driver's own state")
	c.Flags().StringVar(&o.http, "http-address", ":9812", "address of /metrics, /healthz and /readyz; empty serves none")
	return c
}

func (o attachOptions) run(stop context.Context) error {
	if err := protect.Process(); err != nil {
		return err
	}
	attacher := &fuse.Attacher{Dir: attachDir(o.state), Connector: rados.Connector{}}
	if err := attacher.Clean(); err != nil {
		// What cannot be cleaned now is in nobody's way: each volume has its own place.
		klog.ErrorS(err, "Not everything that an earlier process left could be cleaned")
	}
	// A volume that is attached outlives the signal: the process serves on until
	// the last is detached, or it is killed at the end of its pod's grace.
	serving, end := context.WithCancel(context.WithoutCancel(stop))
	defer end()
	listener, err := server.Listen(serving, attachSocket(o.state))
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	registry.MustRegister(collectors.NewGoCollector(), collectors.NewProcessCollector(collectors.ProcessCollectorOpts{}), attacher.Metrics())
	group, serving := errgroup.WithContext(serving)
	group.Go(func() error { return web.ServeOn(serving, listener, remote.Handler(attacher)) })
	group.Go(func() error {
		return web.Serve(serving, o.http, web.Handler(registry, func(context.Context) error { return nil }))
	})
	group.Go(func() error { defer end(); return o.drain(serving, stop, attacher) })
	klog.InfoS("Serving", "socket", listener.Addr().String())
	if err := group.Wait(); err != nil && !errors.Is(err, context.Canceled) {
		return fmt.Errorf("attach process: %w", err)
	}
	return nil
}

// drain waits for the signal to stop, and then until no volume is attached.
func (o attachOptions) drain(serving, stop context.Context, attacher *fuse.Attacher) error {
	select {
	case <-stop.Done():
	case <-serving.Done():
		return nil
	}
	devices, err := attacher.List(serving)
	klog.InfoS("Asked to stop: serving on until no volume is attached", "attached", len(devices))
	select {
	case <-attacher.Drained():
	case <-serving.Done():
	}
	return err
}
