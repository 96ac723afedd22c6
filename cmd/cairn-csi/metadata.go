package main

import (
	"context"
	"crypto/tls"
	"fmt"
	"net"

	cbt "github.com/kubernetes-csi/external-snapshot-metadata/client/clientset/versioned"
	"github.com/kubernetes-csi/external-snapshot-metadata/pkg/api"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/snapshotmetadata"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

type metadataOptions struct {
	kube
	listen, address, http string
}

func snapshotMetadataCommand() *cobra.Command {
	var o metadataOptions
	c := &cobra.Command{
		Use:   "snapshot-metadata",
		Short: "Tell backup programs what snapshots hold, and what changed between two of them",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&o.listen, "listen", ":6443", "address that is listened on")
	c.Flags().StringVar(&o.address, "address", "cairn-snapshot-metadata.cairn-system.svc:6443", "host and port by which clients get here")
	c.Flags().StringVar(&o.http, "http-address", ":9814", "address of /metrics, /healthz and /readyz; empty serves none")
	return c
}

func (o metadataOptions) run(ctx context.Context) error {
	client, snapshots, err := o.clients()
	if err != nil {
		return err
	}
	config, err := o.configure()
	if err != nil {
		return err
	}
	services, err := cbt.NewForConfig(config)
	if err != nil {
		return fmt.Errorf("make the client of SnapshotMetadataServices: %w", err)
	}
	listener, err := new(net.ListenConfig).Listen(ctx, "tcp", o.listen)
	if err != nil {
		return fmt.Errorf("listen on %s: %w", o.listen, err)
	}
	certificate, err := snapshotmetadata.Announce(ctx, services, o.address)
	if err != nil {
		return err
	}
	clusters := connections.New(
		connections.Secrets{Client: client.CoreV1().Secrets(o.namespace), Name: connections.ControllerSecret},
		rados.Connector{}, connections.Timeouts)
	registry := prometheus.NewRegistry()
	grpc := server.New(server.Options{Metrics: registry})
	api.RegisterSnapshotMetadataServer(grpc, &snapshotmetadata.Server{Client: client, Snapshots: snapshots, Driver: &controller.Server{Clusters: clusters}})

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.ServeOn(ctx, grpc, tls.NewListener(listener, certificate)) })
	group.Go(func() error {
		return web.Serve(ctx, o.http, web.Handler(registry, func(context.Context) error { return nil }))
	})
	return group.Wait()
}
