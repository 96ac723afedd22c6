package main

import (
	"fmt"
	"os"
	"os/exec"
	"syscall"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/daemon/disk"
)

func newRunCommand() *cobra.Command {
	var request disk.Request
	cmd := &cobra.Command{
		Use:   "run [flags] -- PROGRAM [ARGUMENT...]",
		Short: "Make an OSD on a blank device, or activate the one that is there, and become its daemon; refuse any other device",
		Args:  cobra.MinimumNArgs(1),
		RunE: func(cmd *cobra.Command, daemon []string) error {
			program, err := exec.LookPath(daemon[0])
			if err != nil {
				return fmt.Errorf("find the OSD's program: %w", err)
			}
			if err := prepare(cmd, request); err != nil {
				return err
			}
			return fmt.Errorf("become %s: %w", program, syscall.Exec(program, daemon, os.Environ()))
		},
	}
	flags := cmd.Flags()
	flags.StringVar(&request.Device, "device", "", "stable path of the device, below /dev/disk")
	flags.StringVar(&request.DB, "db-device", "", "stable path of the device with the OSD's database, below /dev/disk; empty for none")
	flags.StringVar(&request.Claim, "claim", "", "name of the PersistentVolumeClaim whose device it is, at "+disk.ClaimDevice+"; empty for a disk of the node")
	flags.Int32Var(&request.ID, "id", -1, "ID of the OSD")
	flags.StringVar(&request.UUID, "uuid", "", "UUID of the OSD")
	flags.StringVar(&request.FSID, "fsid", "", "FSID of the cluster")
	flags.StringVar(&request.DataDir, "data-dir", "", "directory that becomes the OSD's")
	flags.StringVar(&request.Keyring, "keyring", "", "file with the OSD's key")
	flags.StringVar(&request.Key, "encryption-key", "", "file with the key of a device that is encrypted; empty for one that is not")
	flags.StringVar(&request.DeviceClass, "device-class", "", "CRUSH device class; empty lets Ceph choose")
	flags.BoolVar(&request.ActivateOnly, "activate-only", false, "refuse a blank device: for an OSD that has served data")
	for _, name := range []string{"device", "id", "uuid", "fsid", "data-dir", "keyring"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}

func prepare(cmd *cobra.Command, request disk.Request) error {
	outcome, err := disk.NewPreparer(disk.ThisHost()).Prepare(cmd.Context(), request)
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "osd.%d on %s: %s\n", request.ID, request.Device, outcome)
	return err
}
