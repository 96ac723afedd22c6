package main

import (
	"context"
	"flag"
	"fmt"
	"os"
	"time"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/pool"
	"github.com/cairn-storage/cairn/operator/preview"
	"github.com/cairn-storage/cairn/operator/process"
)

// plan answers 'kubectl cairn plan', which runs it in the operator's pod: it reads
// resources as they are to be from its input, and says what they would do.
func plan(args []string) error {
	flags := flag.NewFlagSet("cairn-operator plan", flag.ExitOnError)
	format := flags.String("o", "text", "text or json")
	if err := flags.Parse(args); err != nil {
		return err
	}
	image, namespace := os.Getenv("CAIRN_IMAGE"), os.Getenv("POD_NAMESPACE")
	if image == "" || namespace == "" {
		return fmt.Errorf("$CAIRN_IMAGE and $POD_NAMESPACE are needed: run this in the operator's pod")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	scheme, err := process.Kinds()
	if err != nil {
		return err
	}
	reader, err := client.New(config, client.Options{Scheme: scheme})
	if err != nil {
		return fmt.Errorf("make a client: %w", err)
	}
	ctx, cancel := context.WithTimeout(ctrl.SetupSignalHandler(), time.Minute)
	defer cancel()
	connections := connection.NewManager(rados.Connector{})
	f := &preview.Foreseer{
		Cluster: &cluster.Reconciler{Client: reader, Live: reader, Connections: connections, Image: image, Namespace: namespace},
		Pool:    &pool.Reconciler{Client: reader, Live: reader, Connections: connections},
	}
	return f.Answer(ctx, os.Stdin, *format, os.Stdout)
}
