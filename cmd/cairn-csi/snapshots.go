package main

import (
	"context"

	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	"k8s.io/component-base/metrics/legacyregistry"

	"github.com/cairn-storage/cairn/csi/sidecar"
	"github.com/cairn-storage/cairn/csi/web"
)

type snapshotOptions struct {
	kube
	http, name string
	workers    int
}

func snapshotControllerCommand() *cobra.Command {
	var o snapshotOptions
	c := &cobra.Command{
		Use:   "snapshot-controller",
		Short: "The cluster's controller of VolumeSnapshots, of all drivers, where there is none yet",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	o.flags(c.Flags())
	c.Flags().StringVar(&o.http, "http-address", ":9813", "address of /metrics, /healthz and /readyz; empty serves none")
	c.Flags().StringVar(&o.name, "name", env("POD_NAME", "cairn-snapshot-controller"), "name of this process among its replicas ($POD_NAME)")
	c.Flags().IntVar(&o.workers, "workers", 20, "snapshots worked on at once")
	return c
}

func (o snapshotOptions) run(ctx context.Context) error {
	client, snapshots, err := o.clients()
	if err != nil {
		return err
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return web.Serve(ctx, o.http, web.Handler(legacyregistry.DefaultGatherer, func(context.Context) error { return nil }))
	})
	group.Go(func() error {
		return sidecar.SnapshotController{Client: client, Snapshots: snapshots, Namespace: o.namespace, Identity: o.name, Workers: o.workers}.Run(ctx)
	})
	return group.Wait()
}
