// Package cluster turns a StorageCluster into running Ceph daemons: observe,
// desired, plan, apply, status, in one direction.
package cluster

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/client-go/tools/events"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/predicate"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"
	"sigs.k8s.io/controller-runtime/pkg/source"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
)

// How long until the next look, when no event comes first. What Ceph does brings
// no event: while something is awaited the operator looks often, and the rarer
// the longer nothing has changed.
const (
	lookAtOnce    = time.Second / 5
	lookAgainSoon = time.Second
	// What Ceph notices by itself, such as a node that falls silent, wakes nobody.
	lookAgain = 5 * time.Second
)

// Reconciler reconciles StorageClusters.
type Reconciler struct {
	// Client reads from the cache, Live from the server.
	Client client.Client
	Live   client.Reader
	// Connections to the clusters.
	Connections *connection.Manager
	// Namespace of the operator: the only one in which it runs clusters.
	Namespace string
	// Image is Cairn's own, for what prepares devices.
	Image string
	// Events tell a person what was done.
	Events events.EventRecorder
	// Now is the time; nil is the real one.
	Now func() time.Time

	stored  stored
	apart   apart
	changed sync.Map // types.UID of a cluster → time.Time of its status' last change
}

func (r *Reconciler) now() time.Time {
	if r.Now != nil {
		return r.Now()
	}
	return time.Now()
}

// Reconcile takes one look at a cluster and does what can be done now.
func (r *Reconciler) Reconcile(ctx context.Context, cached *v1alpha1.StorageCluster) (ctrl.Result, error) {
	// The status says since when something is so: the cache may not know yet what the last look wrote there.
	cluster := &v1alpha1.StorageCluster{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(cached), cluster); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if cluster.Namespace != r.Namespace {
		return ctrl.Result{}, r.refuse(ctx, cluster, v1alpha1.ReasonWrongNamespace, fmt.Sprintf(
			"Cairn runs clusters in its own namespace only. Make the StorageCluster in namespace %s", r.Namespace))
	}
	inUse := ""
	if cluster.DeletionTimestamp != nil {
		using, result, err := r.remove(ctx, cluster)
		if using == "" || err != nil {
			return result, err
		}
		inUse = using
	} else if controllerutil.AddFinalizer(cluster, kube.Finalizer) {
		if err := r.Client.Update(ctx, cluster); err != nil {
			return ctrl.Result{}, fmt.Errorf("protect the StorageCluster: %w", err)
		}
	}
	observed, want, err := r.Look(ctx, cluster)
	if err != nil {
		return ctrl.Result{}, err
	}
	observed.InUse = inUse
	steps, err := Plan(observed, want)
	if err != nil {
		return ctrl.Result{}, err
	}
	worked, applyErr := r.apply(ctx, observed, steps)
	r.tell(cluster, steps)
	said := status(observed, want, steps)
	r.warn(observed, want, said.Blocker)
	if err := errors.Join(applyErr, r.writeStatus(ctx, cluster, said)); err != nil {
		return ctrl.Result{}, err
	}
	return ctrl.Result{RequeueAfter: r.next(worked, cluster, len(steps))}, nil
}

// Look observes a cluster and says what should exist. It changes nothing.
func (r *Reconciler) Look(ctx context.Context, cluster *v1alpha1.StorageCluster) (*Observed, *Desired, error) {
	look := r
	if mayRecover(cluster) {
		look = r.fromServer()
	}
	observed, err := look.observe(ctx, cluster)
	if err != nil {
		return nil, nil, err
	}
	want := desired(observed, r.Image)
	if len(want.Leaving) == 0 {
		return observed, want, nil
	}
	// A disk that an old list does not show may have been moved: its OSD does not leave then.
	if err := r.observeInventory(ctx, observed, r.Live); err != nil {
		return nil, nil, err
	}
	return observed, desired(observed, r.Image), nil
}

// refuse says why nothing is done.
func (r *Reconciler) refuse(ctx context.Context, cluster *v1alpha1.StorageCluster, reason, message string) error {
	status := *cluster.Status.DeepCopy()
	c := condition(v1alpha1.ConditionReady, false, reason, message)
	c.ObservedGeneration = cluster.Generation
	meta.SetStatusCondition(&status.Conditions, c)
	return r.writeStatus(ctx, cluster, status)
}

func (r *Reconciler) next(worked bool, cluster *v1alpha1.StorageCluster, steps int) time.Duration {
	ready := meta.IsStatusConditionTrue(cluster.Status.Conditions, v1alpha1.ConditionReady)
	switch {
	case worked:
		return lookAtOnce
	case upgrading(cluster):
		return lookAgainSoon
	case cluster.Status.FSID != "" && (cluster.Status.Blocker != nil || ready && steps == 0):
		return lookAgain
	}
	if at, ok := r.changed.Load(cluster.UID); ok {
		return min(max(r.now().Sub(at.(time.Time))/10, lookAtOnce), lookAgainSoon)
	}
	return lookAgainSoon
}

// tell reports finished steps as events.
func (r *Reconciler) tell(cluster *v1alpha1.StorageCluster, steps []Step) {
	for _, s := range steps {
		if !s.Wait && s.Gate == "" && r.Events != nil {
			r.Events.Eventf(cluster, nil, corev1.EventTypeNormal, "Step", "Reconcile", "%s: %s", s.What, s.Why)
		}
	}
}

func (r *Reconciler) writeStatus(ctx context.Context, cluster *v1alpha1.StorageCluster, status v1alpha1.StorageClusterStatus) error {
	if equality.Semantic.DeepEqual(cluster.Status, status) {
		return nil
	}
	before := cluster.DeepCopy()
	cluster.Status = status
	if err := kube.WriteStatus(ctx, r.Client, cluster, before); err != nil {
		return err
	}
	r.changed.Store(cluster.UID, r.now())
	return nil
}

// SetupWithManager registers the reconciler and what wakes it.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	every := handler.EnqueueRequestsFromMapFunc(r.everyCluster)
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.StorageCluster{}).
		Owns(&appsv1.Deployment{}).
		Owns(&corev1.ConfigMap{}).
		Owns(&corev1.Secret{}).
		Owns(&policyv1.PodDisruptionBudget{}).
		Watches(&batchv1.Job{}, handler.EnqueueRequestsFromMapFunc(clusterOfLabels)).
		Watches(&corev1.Pod{}, handler.EnqueueRequestsFromMapFunc(clusterOfLabels)).
		Watches(&corev1.Service{}, handler.EnqueueRequestsFromMapFunc(clusterOfLabels)).
		Watches(&corev1.PersistentVolumeClaim{}, handler.EnqueueRequestsFromMapFunc(clusterOfLabels)).
		Watches(&v1alpha1.NodeStorage{}, every).
		Watches(&corev1.Node{}, every, builder.WithPredicates(nodeChanges)).
		WatchesRawSource(source.TypedChannel(r.Connections.Wake, wake())).
		Complete(reconcile.AsReconciler(r.Client, r))
}

func wake() handler.TypedEventHandler[*v1alpha1.StorageCluster, reconcile.Request] {
	return handler.TypedEnqueueRequestsFromMapFunc(func(_ context.Context, cluster *v1alpha1.StorageCluster) []reconcile.Request {
		return []reconcile.Request{{NamespacedName: client.ObjectKeyFromObject(cluster)}}
	})
}

func clusterOfLabels(_ context.Context, object client.Object) []reconcile.Request {
	name := object.GetLabels()[kube.LabelCluster]
	if name == "" {
		return nil
	}
	return []reconcile.Request{{NamespacedName: client.ObjectKey{Namespace: object.GetNamespace(), Name: name}}}
}

func (r *Reconciler) everyCluster(ctx context.Context, _ client.Object) (requests []reconcile.Request) {
	var clusters v1alpha1.StorageClusterList
	if err := r.Client.List(ctx, &clusters); err != nil {
		return nil
	}
	for i := range clusters.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&clusters.Items[i])})
	}
	return requests
}

// nodeChanges lets through what matters of a node: kubelets write their nodes
// all the time.
var nodeChanges = predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*corev1.Node)
	if !ok {
		return true
	}
	after, ok := e.ObjectNew.(*corev1.Node)
	return !ok || kube.NodeAnswers(before) != kube.NodeAnswers(after) || before.Spec.Unschedulable != after.Spec.Unschedulable || !equality.Semantic.DeepEqual(before.Labels, after.Labels) ||
		!equality.Semantic.DeepEqual(before.Spec.Taints, after.Spec.Taints)
}}
