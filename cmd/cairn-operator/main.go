// Command cairn-operator turns Cairn's resources into running Ceph daemons.
package main

import (
	"flag"
	"fmt"
	"os"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/log/zap"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/pool"
)

type options struct {
	metrics, health, image, namespace string
	leaderElection                    bool
}

func main() {
	var o options
	flag.StringVar(&o.metrics, "metrics-address", ":8080", "address of /metrics; 0 serves none")
	flag.StringVar(&o.health, "health-address", ":8081", "address of /healthz and /readyz")
	flag.StringVar(&o.image, "image", os.Getenv("CAIRN_IMAGE"), "Cairn's own image, for what the operator runs ($CAIRN_IMAGE)")
	flag.StringVar(&o.namespace, "namespace", os.Getenv("POD_NAMESPACE"), "namespace of the operator ($POD_NAMESPACE)")
	flag.BoolVar(&o.leaderElection, "leader-election", true, "let one of several replicas lead")
	logging := zap.Options{}
	logging.BindFlags(flag.CommandLine)
	flag.Parse()
	ctrl.SetLogger(zap.New(zap.UseFlagOptions(&logging)))
	if err := run(o); err != nil {
		fmt.Fprintln(os.Stderr, "cairn-operator:", err)
		os.Exit(1)
	}
}

func run(o options) error {
	if o.image == "" || o.namespace == "" {
		return fmt.Errorf("-image and -namespace (or $CAIRN_IMAGE and $POD_NAMESPACE) are needed")
	}
	mgr, err := newManager(o)
	if err != nil {
		return err
	}
	connections := connection.NewManager(rados.Connector{})
	for _, reconciler := range []interface {
		SetupWithManager(ctrl.Manager) error
	}{
		&cluster.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections, Image: o.image, Namespace: o.namespace, Events: mgr.GetEventRecorder("cairn-operator")},
		&pool.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections},
		&csidriver.Reconciler{Client: mgr.GetClient(), Namespace: o.namespace, Image: o.image},
	} {
		if err := reconciler.SetupWithManager(mgr); err != nil {
			return fmt.Errorf("set up %T: %w", reconciler, err)
		}
	}
	return mgr.Start(ctrl.SetupSignalHandler())
}

func newManager(o options) (manager.Manager, error) {
	scheme := runtime.NewScheme()
	if err := clientgoscheme.AddToScheme(scheme); err != nil {
		return nil, err
	}
	if err := v1alpha1.AddToScheme(scheme); err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(ctrl.GetConfigOrDie(), ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: o.metrics}, HealthProbeBindAddress: o.health,
		LeaderElection: o.leaderElection, LeaderElectionID: "cairn-operator", LeaderElectionNamespace: o.namespace,
		LeaderElectionReleaseOnCancel: true,
		Cache:                         cache.Options{ByObject: ours(o.namespace)},
	})
	if err != nil {
		return nil, fmt.Errorf("make the manager: %w", err)
	}
	for name, add := range map[string]func(string, healthz.Checker) error{"healthz": mgr.AddHealthzCheck, "readyz": mgr.AddReadyzCheck} {
		if err := add(name, healthz.Ping); err != nil {
			return nil, err
		}
	}
	return mgr, nil
}

// ours keeps the cache to what Cairn made, where it makes it: a cluster has many
// Secrets and Pods that are none of its business.
func ours(namespace string) map[client.Object]cache.ByObject {
	made := cache.ByObject{
		Namespaces: map[string]cache.Config{namespace: {}},
		Label:      labels.SelectorFromSet(labels.Set{kube.LabelManagedBy: kube.Manager}),
	}
	return map[client.Object]cache.ByObject{
		&corev1.Secret{}: made, &corev1.ConfigMap{}: made, &corev1.Service{}: made, &corev1.Pod{}: made,
		&rbacv1.Role{}: made, &rbacv1.RoleBinding{}: made,
		&appsv1.Deployment{}: made, &appsv1.DaemonSet{}: made,
	}
}
