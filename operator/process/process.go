// Package process is the operator's process: one manager with all reconcilers.
package process

import (
	"context"
	"errors"
	"fmt"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	rbacv1 "k8s.io/api/rbac/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/cache"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/config"
	"sigs.k8s.io/controller-runtime/pkg/healthz"
	"sigs.k8s.io/controller-runtime/pkg/manager"
	metricsserver "sigs.k8s.io/controller-runtime/pkg/metrics/server"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/pool"
)

// Options of the process.
type Options struct {
	// Metrics and Health are addresses; "0" serves none.
	Metrics, Health string
	// Image is Cairn's own, Namespace the operator's.
	Image, Namespace string
	LeaderElection   bool
}

// Run reconciles until the context ends. connector is the way to Ceph.
func Run(ctx context.Context, api *rest.Config, o Options, connector ceph.Connector) error {
	mgr, err := NewManager(api, o)
	if err != nil {
		return err
	}
	connections := connection.NewManager(connector)
	for _, reconciler := range []interface {
		SetupWithManager(ctrl.Manager) error
	}{
		&cluster.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections, Image: o.Image, Namespace: o.Namespace, Events: mgr.GetEventRecorder("cairn-operator")},
		&pool.Reconciler{Client: mgr.GetClient(), Live: mgr.GetAPIReader(), Connections: connections},
		&csidriver.Reconciler{Client: mgr.GetClient(), Namespace: o.Namespace, Image: o.Image},
	} {
		if err := reconciler.SetupWithManager(mgr); err != nil {
			return fmt.Errorf("set up %T: %w", reconciler, err)
		}
	}
	return mgr.Start(ctx)
}

// Kinds are those that the operator works with.
func Kinds() (*runtime.Scheme, error) {
	scheme := runtime.NewScheme()
	return scheme, errors.Join(clientgoscheme.AddToScheme(scheme), v1alpha1.AddToScheme(scheme))
}

// atOnce is how many clusters, and how many pools, are looked at at once: one whose Ceph or
// whose objects do not answer holds up no other.
const atOnce = 8

// patience is how long one look may take with all that it does; the next goes on from there.
const patience = 5 * time.Minute

// NewManager returns the manager, without reconcilers.
func NewManager(api *rest.Config, o Options) (manager.Manager, error) {
	scheme, err := Kinds()
	if err != nil {
		return nil, err
	}
	mgr, err := ctrl.NewManager(api, ctrl.Options{
		Scheme: scheme, Metrics: metricsserver.Options{BindAddress: o.Metrics}, HealthProbeBindAddress: o.Health,
		LeaderElection: o.LeaderElection, LeaderElectionID: "cairn-operator", LeaderElectionNamespace: o.Namespace,
		LeaderElectionReleaseOnCancel: true,
		Controller:                    config.Controller{MaxConcurrentReconciles: atOnce, ReconciliationTimeout: patience},
		// Nothing asks who wrote which field, and that is a third of an object.
		Cache: cache.Options{ByObject: ours(o.Namespace), DefaultTransform: cache.TransformStripManagedFields()},
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
		&appsv1.Deployment{}: made, &appsv1.DaemonSet{}: made, &policyv1.PodDisruptionBudget{}: made, &batchv1.Job{}: made, &corev1.PersistentVolumeClaim{}: made,
	}
}
