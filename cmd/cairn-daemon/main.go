// The cairn-daemon program runs on the nodes: the agent that publishes what a
// node has, and the steps that an OSD's pod takes before Ceph starts.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := newCommand().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "cairn-daemon:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func newCommand() *cobra.Command {
	root := &cobra.Command{
		Use:           "cairn-daemon",
		Short:         "Cairn on a node",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	osd := &cobra.Command{Use: "osd", Short: "Steps of an OSD's pod"}
	osd.AddCommand(newRunCommand())
	root.AddCommand(newAgentCommand(), osd, newInstallCommand(), newDisksCommand(), newWipeCommand(), newMonCommand())
	return root
}
