package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"github.com/spf13/cobra"

	"github.com/cairn-storage/cairn/daemon/disk"
	"github.com/cairn-storage/cairn/daemon/monstore"
)

func newCollectCommand() *cobra.Command {
	var (
		collection   monstore.Collection
		osds         []string
		work, report string
	)
	cmd := &cobra.Command{
		Use: "collect", Short: "Read the maps that this node's OSDs know, none of which runs, and keep the newest", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			collection.Progress = cmd.OutOrStdout()
			dirs, err := activate(cmd.Context(), osds, collection.FSID, work, collection.Progress)
			if err != nil {
				return err
			}
			maps, err := collection.Collect(cmd.Context(), dirs)
			if err != nil {
				return err
			}
			text, err := json.Marshal(maps)
			if err == nil {
				err = os.WriteFile(report, text, 0o600)
			}
			if err != nil {
				return fmt.Errorf("report the maps: %w", err)
			}
			return nil
		},
	}
	collectionFlags(cmd, &collection)
	flags := cmd.Flags()
	flags.StringSliceVar(&collection.Mons, "mon", nil, "name of a mon of the cluster, which must have no store here; repeatable")
	flags.StringArrayVar(&osds, "osd", nil, "ID, UUID, device, database's device (or none) and file with the encryption key (or none) of an OSD as ID,UUID,/dev/disk/…,/dev/disk/…,/run/…; repeatable")
	flags.StringVar(&work, "work-dir", "", "directory in which the OSDs' directories are made")
	flags.StringVar(&report, "report", "", "file that tells which maps were found")
	for _, name := range []string{"mon", "work-dir", "report"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}

func collectionFlags(cmd *cobra.Command, collection *monstore.Collection) {
	flags := cmd.Flags()
	flags.StringVar(&collection.Dir, "dir", "", "directory with the stores of the cluster's mons")
	flags.StringVar(&collection.Name, "name", "", "name below --dir of what is collected")
	flags.StringVar(&collection.FSID, "fsid", "", "FSID of the cluster")
	for _, name := range []string{"dir", "name", "fsid"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
}

// activate makes the directories of OSDs whose disks bear them, as before a start. The mappings
// of encrypted disks end with this process.
func activate(ctx context.Context, osds []string, fsid, work string, progress io.Writer) (dirs []string, err error) {
	none := filepath.Join(work, "no-key")
	if err := os.WriteFile(none, nil, 0o600); err != nil {
		return nil, fmt.Errorf("make room for the OSDs' directories: %w", err)
	}
	for _, osd := range osds {
		request, err := parseOSD(osd)
		if err != nil {
			return nil, err
		}
		_, _ = fmt.Fprintf(progress, "look for osd.%d on %s\n", request.ID, request.Device)
		request.FSID, request.DataDir, request.Keyring, request.ActivateOnly = fsid, filepath.Join(work, fmt.Sprintf("osd-%d", request.ID)), none, true
		if _, err := disk.NewPreparer(disk.ThisHost()).Prepare(ctx, request); err != nil {
			return nil, fmt.Errorf("osd.%d%s: %w", request.ID, giveUpAdvice(err), err)
		}
		dirs = append(dirs, request.DataDir)
	}
	return dirs, nil
}

// parseOSD reads an OSD from the command line.
func parseOSD(text string) (disk.Request, error) {
	parts := strings.Split(text, ",")
	if len(parts) != 5 {
		return disk.Request{}, fmt.Errorf("--osd: %q is not ID,UUID,DEVICE,DB,KEY", text)
	}
	id, err := strconv.ParseInt(parts[0], 10, 32)
	if err != nil {
		return disk.Request{}, fmt.Errorf("--osd: %q: the ID: %w", text, err)
	}
	return disk.Request{ID: int32(id), UUID: parts[1], Device: parts[2], DB: parts[3], Key: parts[4]}, nil
}

// giveUpAdvice says how to go on without an OSD. One whose disk is there and wants its key, or is
// in use, is not to be given up.
func giveUpAdvice(err error) string {
	refused := (*disk.RefusedError)(nil)
	if errors.Is(err, disk.ErrLocked) || errors.As(err, &refused) && (refused.Reason == disk.Encrypted || refused.Reason == disk.NotEncrypted) {
		return ""
	}
	return " (when its disk is gone for ever, take it out of spec.storage)"
}

func newFoundCommand() *cobra.Command {
	var (
		collection monstore.Collection
		mon        monstore.Founder
		keys       string
	)
	cmd := &cobra.Command{
		Use: "found", Short: "Make a mon's store from the maps that were collected on this node", Args: cobra.NoArgs,
		RunE: func(cmd *cobra.Command, _ []string) error {
			mon.Keyring, mon.MonKeyring = filepath.Join(keys, "keyring"), filepath.Join(keys, "mon")
			err := collection.Found(cmd.Context(), mon)
			if err == nil {
				_, err = fmt.Fprintf(cmd.OutOrStdout(), "mon %s: its store is made from the OSDs\n", mon.Name)
			}
			return errors.Join(err, cmd.Context().Err())
		},
	}
	collectionFlags(cmd, &collection)
	flags := cmd.Flags()
	flags.StringVar(&mon.Name, "mon", "", "name of the mon")
	flags.StringVar(&mon.Endpoint, "endpoint", "", "address of the mon, as a monmap has it")
	flags.Uint64Var(&mon.Epoch, "epoch", 0, "the newest OSD map that any OSD has")
	flags.StringVar(&keys, "keys", "", "directory with the keyrings of all users (keyring) and of the mons alone (mon)")
	for _, name := range []string{"mon", "endpoint", "epoch", "keys"} {
		cobra.CheckErr(cmd.MarkFlagRequired(name))
	}
	return cmd
}
