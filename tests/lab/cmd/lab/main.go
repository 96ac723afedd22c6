// Command lab brings up a real Kubernetes on this machine, and torments it.
package main

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"

	"github.com/spf13/cobra"
	"golang.org/x/sys/unix"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/tests/lab"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, unix.SIGTERM)
	defer stop()
	if err := command().ExecuteContext(ctx); err != nil {
		fmt.Fprintln(os.Stderr, "lab:", err)
		stop()
		os.Exit(1)
	}
}

func command() *cobra.Command {
	root := &cobra.Command{
		Use:           "lab",
		Short:         "A real Kubernetes on one Linux machine, for Cairn's demo and tests",
		SilenceUsage:  true,
		SilenceErrors: true,
	}
	root.AddCommand(upCommand(), kubectlCommand(), nodeCommand(), diskCommand(),
		simple("down", "Remove the lab, whatever state it is in", lab.Down),
		simple("install-deps", "Install the Debian packages and build the Kubernetes that the lab needs", install),
		simple("status", "Show what there is and how it fares", func(ctx context.Context) error {
			return lab.Status(ctx, os.Stdout)
		}),
		simple("kubeconfig", "Print the path of the kubeconfig", func(context.Context) error {
			fmt.Println(lab.Kubeconfig())
			return nil
		}),
		&cobra.Command{
			Use:   "load [IMAGE...]",
			Short: "Give the nodes the named images, or all that have been made",
			RunE: func(cmd *cobra.Command, images []string) error {
				return lab.LoadImages(cmd.Context(), images...)
			},
		})
	return root
}

func simple(use, short string, run func(context.Context) error) *cobra.Command {
	return &cobra.Command{Use: use, Short: short, Args: cobra.NoArgs, RunE: func(cmd *cobra.Command, _ []string) error {
		return run(cmd.Context())
	}}
}

func upCommand() *cobra.Command {
	options := lab.DefaultOptions()
	size := "10Gi"
	cmd := simple("up", "Bring the lab up; a lab that is up stays as it is", func(ctx context.Context) error {
		var err error
		if options.DiskSize, err = parseSize("disk-size", size); err != nil {
			return err
		}
		return lab.Up(ctx, options)
	})
	cmd.Flags().IntVar(&options.Nodes, "nodes", options.Nodes, "number of nodes")
	cmd.Flags().IntVar(&options.Disks, "disks", options.Disks, "disks of each node")
	cmd.Flags().StringVar(&size, "disk-size", size, "size of each disk (files are sparse)")
	return cmd
}

func parseSize(flag, text string) (int64, error) {
	quantity, err := resource.ParseQuantity(text)
	if err != nil {
		return 0, fmt.Errorf("%s: %q: %w", flag, text, err)
	}
	return quantity.Value(), nil
}

func kubectlCommand() *cobra.Command {
	return &cobra.Command{
		Use:                "kubectl [ARGUMENT...]",
		Short:              "Run kubectl as the lab's administrator",
		DisableFlagParsing: true,
		RunE: func(_ *cobra.Command, args []string) error {
			path := filepath.Join(lab.KubernetesDir(), "kubectl")
			env := append(os.Environ(), "KUBECONFIG="+lab.Kubeconfig())
			if err := unix.Exec(path, append([]string{path}, args...), env); err != nil {
				return fmt.Errorf("run kubectl (is the lab up?): %w", err)
			}
			return nil
		},
	}
}

func nodeCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "node", Short: "Freeze, kill or cut off a node, and bring it back"}
	for _, action := range []struct {
		name, short string
		run         func(*lab.Node, context.Context) error
	}{
		{"freeze", "Stop all processes of a node", (*lab.Node).Freeze},
		{"thaw", "Let a frozen node go on", (*lab.Node).Thaw},
		{"kill", "Cut a node's power", (*lab.Node).Kill},
		{"start", "Boot a node that was killed", (*lab.Node).Start},
		{"cut", "Unplug a node's network", (*lab.Node).Cut},
		{"heal", "Plug a node's network in again", (*lab.Node).Heal},
	} {
		cmd.AddCommand(&cobra.Command{Use: action.name + " NODE", Short: action.short, Args: cobra.ExactArgs(1),
			RunE: func(cmd *cobra.Command, args []string) error {
				node, err := lab.Get(args[0])
				if err != nil {
					return err
				}
				return action.run(node, cmd.Context())
			}})
	}
	cmd.AddCommand(execCommand())
	return cmd
}

func execCommand() *cobra.Command {
	return &cobra.Command{
		Use: "exec NODE COMMAND [ARGUMENT...]", Short: "Run a command inside a node",
		DisableFlagParsing: true,
		RunE: func(cmd *cobra.Command, args []string) error {
			if len(args) < 2 {
				return fmt.Errorf("usage: %s", cmd.UseLine())
			}
			node, err := lab.Get(args[0])
			if err != nil {
				return err
			}
			inside, err := node.Command(cmd.Context(), args[1:]...)
			if err != nil {
				return err
			}
			inside.Stdin, inside.Stdout, inside.Stderr = os.Stdin, os.Stdout, os.Stderr
			return inside.Run()
		},
	}
}

func diskCommand() *cobra.Command {
	cmd := &cobra.Command{Use: "disk", Short: "Add a disk to a node, make one fail, or renew it"}
	size := "10Gi"
	add := &cobra.Command{Use: "add NODE", Short: "Add a disk and print its stable name", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error {
			bytes, err := parseSize("size", size)
			if err != nil {
				return err
			}
			byID, err := lab.AddDisk(cmd.Context(), args[0], bytes)
			if err == nil {
				fmt.Println(byID)
			}
			return err
		}}
	add.Flags().StringVar(&size, "size", size, "size of the disk")
	cmd.AddCommand(add, &cobra.Command{
		Use: "fail DISK", Short: "Make a disk fail for good (lab-node1-disk1, or node1/disk1)", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return lab.FailDisk(cmd.Context(), args[0]) },
	}, &cobra.Command{
		Use: "renew DISK", Short: "Put a blank disk in the place of one that failed", Args: cobra.ExactArgs(1),
		RunE: func(cmd *cobra.Command, args []string) error { return lab.RenewDisk(cmd.Context(), args[0]) },
	})
	return cmd
}

// install gets what a machine needs before a lab can be.
func install(ctx context.Context) error {
	if err := lab.InstallPackages(ctx); err != nil {
		return err
	}
	fmt.Println("Kubernetes (built once, about ten minutes)")
	return lab.EnsureKubernetes(ctx)
}
