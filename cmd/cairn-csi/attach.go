package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/csi/attach/process"
	"github.com/cairn-storage/cairn/csi/protect"
	"github.com/cairn-storage/cairn/csi/systemd"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

const defaultStateDir = "/var/lib/cairn/csi"

func attachSocket(state string) string { return process.StateDir(state).AttachSocket() }

type attachOptions struct{ state, http string }

func attachCommand() *cobra.Command {
	var o attachOptions
	c := &cobra.Command{
		Use:   "attach",
		Short: "Serve this node's attached volumes where the kernel has no rbd",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return o.run(c.Context()) },
	}
	c.Flags().StringVar(&o.state, "state-dir", defaultStateDir, "directory of the driver's own state")
	c.Flags().StringVar(&o.http, "http-address", ":9812", "address of /metrics, /healthz and /readyz; empty serves none")
	return c
}

func (o attachOptions) run(ctx context.Context) error {
	if err := protect.Process(protect.Last); err != nil {
		return err
	}
	return process.Attach(ctx, process.StateDir(o.state), rados.Connector{}, systemd.Run, o.http)
}
