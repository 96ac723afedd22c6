// Command cairn-operator turns Cairn's resources into running Ceph daemons.
package main

import (
	"flag"
	"fmt"
	"os"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"

	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/operator/process"
)

func main() {
	if len(os.Args) > 1 && os.Args[1] == "plan" {
		exit(plan(os.Args[2:]))
		return
	}
	var o process.Options
	flag.StringVar(&o.Metrics, "metrics-address", ":8080", "address of /metrics; 0 serves none")
	flag.StringVar(&o.Health, "health-address", ":8081", "address of /healthz and /readyz")
	flag.StringVar(&o.Image, "image", os.Getenv("CAIRN_IMAGE"), "Cairn's own image, for what the operator runs ($CAIRN_IMAGE)")
	flag.StringVar(&o.Namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the operator ($POD_NAMESPACE)")
	flag.BoolVar(&o.LeaderElection, "leader-election", true, "let one of several replicas lead")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	exit(run(o))
}

// exit ends the program when there is an error, and says it.
func exit(err error) {
	if err != nil {
		fmt.Fprintln(os.Stderr, "cairn-operator:", err)
		os.Exit(1)
	}
}

func run(o process.Options) error {
	if o.Image == "" || o.Namespace == "" {
		return fmt.Errorf("-image and -namespace (or $CAIRN_IMAGE and $POD_NAMESPACE) are needed")
	}
	config, err := ctrl.GetConfig()
	if err != nil {
		return err
	}
	return process.Run(ctrl.SetupSignalHandler(), config, o, rados.Connector{})
}
