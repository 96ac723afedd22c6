package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/daemon/disk"
)

func newPrepareCommand() *cobra.Command {
	var request disk.Request
	cmd := &cobra.Command{
		Use:   "prepare",
		Short: "Make an OSD on a blank device, or activate the one that is there; refuse anything else",
		Args:  cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			outcome, err := disk.NewPreparer(disk.ThisHost()).Prepare(cmd.Context(), request)
			if err != nil {
				return err
			}
			_, err = fmt.Fprintf(cmd.OutOrStdout(), "osd.%d on %s: %s\n", request.ID, request.Device, outcome)
			return err
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Device, "device", "", "stable path of the device, below /dev/disk")
	flags.Int32Var(&request.ID, "id", -1, "ID of the OSD")
	flags.StringVar(&request.UUID, "uuid", "", "UUID of the OSD")
	flags.StringVar(&request.FSID, "fsid", "", "FSID of the cluster")
	flags.StringVar(&request.DataDir, "data-dir", "", "directory that becomes the OSD's")
	flags.StringVar(&request.Keyring, "keyring", "", "file with the OSD's key")
	flags.StringVar(&request.DeviceClass, "device-class", "", "CRUSH device class; empty lets Ceph choose")
	flags.BoolVar(&request.ActivateOnly, "activate-only", false, "refuse a blank device: for an OSD that has served data")
	for _, name := range []string{"device", "id", "uuid", "fsid", "data-dir", "keyring"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}
