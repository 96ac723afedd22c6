// The kubectl-cairn program is 'kubectl cairn': what a person asks of Cairn. It
// reaches Kubernetes through the kubectl that started it, with its user's rights.
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
	if err := newCommand(&kubectl{}).ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "kubectl cairn:", err)
		stop()
		os.Exit(1) //nolint:gocritic // stop was called
	}
}

func newCommand(k *kubectl) *cobra.Command {
	root := &cobra.Command{
		Use:           "kubectl-cairn",
		Short:         "What Cairn would do, and what waits for you",
		SilenceUsage:  true,
		SilenceErrors: true,
		Annotations:   map[string]string{cobra.CommandDisplayNameAnnotation: "kubectl cairn"},
	}
	root.PersistentFlags().StringVarP(&k.namespace, "namespace", "n", "cairn-system", "namespace of Cairn")
	root.PersistentFlags().StringVar(&k.context, "context", "", "context of the kubeconfig file")
	root.PersistentFlags().StringVar(&k.config, "kubeconfig", "", "path of the kubeconfig file")
	root.AddCommand(newPlanCommand(k), newApproveCommand(k))
	return root
}
