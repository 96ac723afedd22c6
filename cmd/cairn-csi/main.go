// Command cairn-csi is Cairn's CSI driver for block volumes: its controller, its
// node plugin, and the process on each node that holds the attached volumes.
package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"os/signal"
	"syscall"

	"github.com/spf13/cobra"
	"k8s.io/klog/v2"
)

// version is set when the program is built.
var version = "dev"

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := command().ExecuteContext(ctx)
	stop()
	klog.Flush()
	if err != nil {
		fmt.Fprintln(os.Stderr, "cairn-csi:", err)
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "cairn-csi",
		Short:         "Cairn's CSI driver for block volumes",
		Version:       version,
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	logging := flag.NewFlagSet("logging", flag.ContinueOnError)
	klog.InitFlags(logging)
	root.PersistentFlags().AddGoFlag(logging.Lookup("v"))
	root.AddCommand(controllerCommand(), nodeCommand(), attachCommand(), snapshotControllerCommand(), snapshotMetadataCommand())
	return root
}

// env returns an environment variable, or what stands for it.
func env(name, otherwise string) string {
	if value := os.Getenv(name); value != "" {
		return value
	}
	return otherwise
}
