package main

import (
	"context"
	"errors"
	"fmt"
	"log/slog"
	"net/http"
	"os"
	"time"

	"github.com/go-logr/logr"
	"github.com/spf13/cobra"
	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/config"
	ctrllog "sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/agent"
	"github.com/cairn-storage/cairn/daemon/disk"
)

type agentOptions struct {
	node     string
	health   string
	interval time.Duration
	host     disk.Host
}

func newAgentCommand() *cobra.Command {
	options := agentOptions{host: disk.ThisHost()}
	cmd := &cobra.Command{
		Use:   "agent",
		Short: "Publish this node's disks and attach methods as its NodeStorage",
		Args:  cobra.NoArgs,
		RunE:  func(cmd *cobra.Command, _ []string) error { return runAgent(cmd.Context(), options) },
	}
	flags := cmd.Flags()
	flags.StringVar(&options.node, "node", os.Getenv("NODE_NAME"), "name of the Kubernetes node (default: the environment's NODE_NAME)")
	flags.StringVar(&options.health, "health-address", ":9810", "where /healthz is served; empty for nowhere")
	flags.DurationVar(&options.interval, "interval", 10*time.Second, "time between two looks at the disks")
	flags.StringVar(&options.host.Mounts, "mountinfo", options.host.Mounts, "mountinfo of the node's first process")
	return cmd
}

func runAgent(ctx context.Context, options agentOptions) error {
	if options.node == "" {
		return errors.New("--node: empty, and the environment has no NODE_NAME")
	}
	if options.interval < time.Second {
		return fmt.Errorf("--interval: %s is less than 1s", options.interval)
	}
	log := logr.FromSlogHandler(slog.NewJSONHandler(os.Stderr, nil))
	ctrllog.SetLogger(log)
	kubernetes, err := newClient()
	if err != nil {
		return err
	}
	events, err := agent.WatchBlockDevices(ctx)
	if err != nil {
		log.Error(err, "changes of disks are seen by looking only")
	}
	a := &agent.Agent{
		Client: kubernetes, Node: options.node, Interval: options.interval,
		Devices: disk.NewInventory(options.host).Devices, Probe: probeAttach, Encryption: disk.ThisKernel().Encryption, Events: events, Log: log,
	}
	group, ctx := errgroup.WithContext(ctx)
	group.Go(func() error { return a.Run(ctx) })
	if options.health != "" {
		group.Go(func() error { return serveHealth(ctx, options.health, a.Healthy) })
	}
	return group.Wait()
}

func newClient() (client.Client, error) {
	rest, err := config.GetConfig()
	if err != nil {
		return nil, fmt.Errorf("find the Kubernetes API: %w", err)
	}
	scheme := runtime.NewScheme()
	if err := errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)); err != nil {
		return nil, fmt.Errorf("register the API's types: %w", err)
	}
	kubernetes, err := client.New(rest, client.Options{Scheme: scheme})
	if err != nil {
		return nil, fmt.Errorf("connect to the Kubernetes API: %w", err)
	}
	return kubernetes, nil
}

func serveHealth(ctx context.Context, address string, healthy func() error) error {
	mux := http.NewServeMux()
	mux.HandleFunc("GET /healthz", func(w http.ResponseWriter, _ *http.Request) {
		if err := healthy(); err != nil {
			http.Error(w, err.Error(), http.StatusServiceUnavailable)
		}
	})
	server := &http.Server{Addr: address, Handler: mux, ReadHeaderTimeout: 5 * time.Second}
	context.AfterFunc(ctx, func() { _ = server.Close() })
	if err := server.ListenAndServe(); !errors.Is(err, http.ErrServerClosed) {
		return fmt.Errorf("serve health: %w", err)
	}
	return nil
}
