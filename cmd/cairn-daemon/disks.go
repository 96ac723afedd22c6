package main

import (
	"fmt"
	"io"
	"text/tabwriter"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/disk"
)

func newDisksCommand() *cobra.Command {
	host := disk.ThisHost()
	cmd := &cobra.Command{
		Use:   "disks",
		Short: "Show this node's disks, and which of them Cairn may use",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			devices, err := disk.NewInventory(host).Devices(cmd.Context())
			if err != nil {
				return err
			}
			return printDisks(cmd.OutOrStdout(), devices)
		},
	}
	cmd.Flags().StringVar(&host.Mounts, "mountinfo", host.Mounts, "mountinfo of the node's first process")
	return cmd
}

func printDisks(out io.Writer, devices []v1alpha1.Device) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	fmt.Fprintln(table, "NAME\tID\tSIZE\tSTATE\tMESSAGE") //nolint:errcheck // Flush reports it
	for _, device := range devices {
		state := device.Reason
		if device.Usable {
			state = "usable"
		}
		fmt.Fprintf(table, "%s\t%s\t%s\t%s\t%s\n", //nolint:errcheck // Flush reports it
			device.Name, orDash(device.ID), disk.Size(device.Size.Value()), state, device.Message)
	}
	return table.Flush()
}

func orDash(text string) string {
	if text == "" {
		return "-"
	}
	return text
}
