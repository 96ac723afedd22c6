package main

import (
	"context"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/csi/attach/process"
	"github.com/cairn-storage/cairn/csi/protect"
)

const defaultStateDir = "/var/lib/cairn/csi"

func keeperCommand() *cobra.Command {
	var state string
	c := &cobra.Command{
		Use:   "keeper",
		Short: "Hold the descriptors of this node's attached volumes, so that they outlive the attach process",
		Args:  cobra.NoArgs,
		RunE:  func(c *cobra.Command, _ []string) error { return keep(c.Context(), state) },
	}
	c.Flags().StringVar(&state, "state-dir", defaultStateDir, "directory of the driver's own state")
	return c
}

func keep(ctx context.Context, state string) error {
	if err := protect.Process(); err != nil {
		return err
	}
	return process.Keeper(ctx, process.StateDir(state))
}
