package main

import (
	"context"
	"runtime/debug"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/component-base/metrics/legacyregistry"
	_ "k8s.io/component-base/metrics/prometheus/workqueue" // the queues' metrics

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/sidecar"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

type controllerOptions struct {
	kube
	socket, http, name string
	workers            int
}

func controllerCommand() *cobra.Command {
	var o controllerOptions
	c := &cobra.Command{
		Use:   "controller",
		Short: "Make, delete, publish, grow, limit and snapshot volumes",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&o.socket, "socket", "/tmp/cairn-csi.sock", "socket that the driver is served on, within the process")
	c.Flags().StringVar(&o.http, "http-address", ":9810", "address of /metrics, /healthz and /readyz; empty serves none")
	c.Flags().StringVar(&o.name, "name", env("POD_NAME", "cairn-csi-controller"), "name of this process among its replicas ($POD_NAME)")
	c.Flags().IntVar(&o.workers, "workers", 40, "claims, attachments and expansions worked on at once, each")
	return c
}

func (o controllerOptions) run(ctx context.Context) error {
	// Most of the heap are caches that hardly change: a collection costs little,
	// and garbage would be most of what the process holds.
	debug.SetGCPercent(40)
	client, snapshots, err := o.clients()
	if err != nil {
		return err
	}
	registry := prometheus.NewRegistry()
	sidecars := metrics.NewCSIMetricsManagerWithOptions("", metrics.WithProcessStartTime(false), metrics.WithSubsystem(metrics.SubsystemSidecar))
	clusters := connections.New(
		connections.Secrets{Client: client.CoreV1().Secrets(o.namespace), Name: connections.ControllerSecret},
		rados.Connector{}, connections.Timeouts)
	informers := sidecar.Informers(client)
	volumes := sidecar.NewVolumes(informers)
	work := upkeep.New(clusters, volumes, upkeep.Defaults, registry)
	keys := &kms.Keys{Source: kms.Kubernetes{
		ConfigMaps: client.CoreV1().ConfigMaps(o.namespace), Secrets: client.CoreV1().Secrets(o.namespace)}}
	work.Forget = keys.Forget
	driver := &controller.Server{Clusters: clusters, Nodes: sidecar.NewNodes(client, informers), Places: volumes, Volumes: volumes, Upkeep: work, Keys: keys}
	grpc := server.New(server.Options{Metrics: registry})
	csi.RegisterIdentityServer(grpc, &identity.Server{Version: version, Controller: true})
	csi.RegisterControllerServer(grpc, driver)
	csi.RegisterGroupControllerServer(grpc, driver)
	csi.RegisterSnapshotMetadataServer(grpc, driver)
	listener, err := server.Listen(ctx, o.socket)
	if err != nil {
		return err
	}

	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return server.ServeOn(ctx, grpc, listener) })
	group.Go(func() error {
		gatherer := prometheus.Gatherers{registry, legacyregistry.DefaultGatherer, sidecars.GetRegistry()}
		return web.Serve(ctx, o.http, web.Handler(gatherer, func(context.Context) error { return nil }))
	})
	group.Go(func() error {
		controllers, err := sidecar.New(ctx, sidecar.Options{
			Client: client, Informers: informers, Snapshots: snapshots, Socket: o.socket,
			Namespace: o.namespace, Identity: o.name, Workers: o.workers, Metrics: sidecars, Leading: work.Run,
		})
		if err != nil {
			return err
		}
		return controllers.Run(ctx)
	})
	return group.Wait()
}
