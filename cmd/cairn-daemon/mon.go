package main

import (
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/daemon/monstore"
)

func newMonCommand() *cobra.Command {
	var recovery monstore.Recovery
	mon := &cobra.Command{Use: "mon", Short: "Rebuild a lost quorum from one mon's store on this node, or from its OSDs, while no mon runs"}
	mon.AddCommand(&cobra.Command{
		Use: "keep", Short: "Copy the store as it is, and see whether a quorum can be made of it", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tellKept(cmd, recovery, recovery.Keep(cmd.Context()))
		},
	}, &cobra.Command{
		Use: "rebuild", Short: "Take all other mons out of the store's monmap", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			return tellKept(cmd, recovery, recovery.Rebuild(cmd.Context()))
		},
	})
	for _, command := range mon.Commands() {
		recoveryFlags(command, &recovery)
	}
	mon.AddCommand(newCollectCommand(), newFoundCommand())
	return mon
}

func recoveryFlags(cmd *cobra.Command, recovery *monstore.Recovery) {
	flags := cmd.Flags()
	flags.StringVar(&recovery.Dir, "dir", "", "directory with the stores of the cluster's mons")
	flags.StringVar(&recovery.Mon, "mon", "", "name of the mon that is left")
	flags.StringVar(&recovery.FSID, "fsid", "", "FSID of the cluster")
	flags.StringVar(&recovery.Backup, "backup", "", "name below --dir of the store's copy")
	for _, name := range []string{"dir", "mon", "fsid", "backup"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
}

func tellKept(cmd *cobra.Command, recovery monstore.Recovery, err error) error {
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(cmd.OutOrStdout(), "mon %s: done; its store as it was is %s\n", recovery.Mon, recovery.Backup)
	return err
}
