package main

import (
	"errors"
	"fmt"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/daemon/disk"
	"github.com/cairn-storage/cairn/daemon/monstore"
)

type wipeOptions struct {
	host                       disk.Host
	request                    disk.WipeRequest
	dataPath, namespace, owner string
}

func newWipeCommand() *cobra.Command {
	options := wipeOptions{host: disk.ThisHost()}
	cmd := &cobra.Command{
		Use:   "wipe",
		Short: "Empty the disks of a cluster's OSDs on this node, and remove its mons' stores; no other disk is written to",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return wipe(cmd, options) },
	}
	flags := cmd.Flags()
	flags.StringVar(&options.request.FSID, "fsid", "", "FSID of the cluster; empty for one that never had a disk")
	flags.StringSliceVar(&options.request.OSDs, "osd", nil, "UUID of an OSD of the cluster, whose disk may bear no FSID yet; repeatable")
	flags.BoolVar(&options.request.Every, "every", false, "empty the disks of all OSDs of the cluster, not of those named alone")
	flags.BoolVar(&options.request.DBOnly, "db-only", false, "empty the DB devices of those OSDs alone")
	flags.StringSliceVar(&options.request.Devices, "device", nil, "stable path of a disk that must be readable, if it is there; repeatable")
	flags.StringVar(&options.dataPath, "data-path", "", "directory of the mons' stores; empty leaves them")
	flags.StringVar(&options.namespace, "namespace", "", "namespace of the cluster whose stores are removed")
	flags.StringVar(&options.owner, "cluster", "", "name of the cluster whose stores are removed")
	flags.StringVar(&options.host.Mounts, "mountinfo", options.host.Mounts, "mountinfo of the node's first process")
	return cmd
}

func wipe(cmd *cobra.Command, options wipeOptions) error {
	var (
		wiped  []string
		failed []error
	)
	if options.request.FSID != "" {
		var err error
		wiped, err = disk.NewWiper(options.host).Wipe(cmd.Context(), options.request)
		failed = append(failed, err)
	}
	for _, path := range wiped {
		_, err := fmt.Fprintf(cmd.OutOrStdout(), "wiped %s\n", path)
		failed = append(failed, err)
	}
	if options.dataPath != "" {
		failed = append(failed, monstore.Remove(options.dataPath, options.namespace, options.owner))
	}
	return errors.Join(failed...)
}
