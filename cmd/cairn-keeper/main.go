// Command cairn-keeper is what must not end on a node while volumes are attached:
// it holds their descriptors, and keeps their data path running. It is small, and
// has nothing of Ceph.
package main

import (
	"context"
	"errors"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"runtime/debug"
	"syscall"

	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/csi/attach/supervise"
	"github.com/cairn-storage/cairn/csi/protect"
)

const usage = `cairn-keeper hold [--dir DIRECTORY]
	holds the descriptors of this node's attached volumes, so that they outlive the process that serves them
cairn-keeper run COMMAND [ARGUMENT]...
	runs a command, and at once again when it ends`

func main() {
	debug.SetGCPercent(25) // a megabyte of garbage, not four, beside the one that is in use
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	code, err := command(ctx, os.Args[1:])
	if err != nil {
		fmt.Fprintln(os.Stderr, "cairn-keeper:", err)
		code = max(1, code)
	}
	os.Exit(code)
}

func command(ctx context.Context, args []string) (int, error) {
	switch {
	case len(args) > 0 && args[0] == "hold":
		return 0, hold(ctx, args[1:])
	case len(args) > 1 && args[0] == "run":
		if err := protect.Process(protect.Never); err != nil {
			return 1, err
		}
		return supervise.Run(ctx, args[1:])
	}
	return 2, errors.New("this is how it is used:\n" + usage)
}

func hold(ctx context.Context, args []string) error {
	flags := flag.NewFlagSet("hold", flag.ContinueOnError)
	dir := flags.String("dir", "/var/lib/cairn/csi/keeper", "directory of the keeper's socket")
	if err := flags.Parse(args); err != nil {
		return err
	}
	if err := protect.Process(protect.Never); err != nil {
		return err
	}
	return keeper.Run(ctx, keeper.Dir(*dir))
}
