// Package pool turns a BlockPool into a Ceph pool, the CephX users that may use
// it, and the StorageClass that makes volumes in it.
package pool

import (
	"context"
	"errors"
	"fmt"
	"sync"
	"time"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"
	"sigs.k8s.io/controller-runtime/pkg/handler"
	"sigs.k8s.io/controller-runtime/pkg/reconcile"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

const (
	lookAgainSoon = time.Second
	lookAgain     = 20 * time.Second
	// lookInTurn is while another pool of the cluster is looked at.
	lookInTurn = 200 * time.Millisecond
	// lookAgainPlacing is while Ceph moves data.
	lookAgainPlacing = 5 * time.Second
)

// Reconciler reconciles BlockPools.
type Reconciler struct {
	Client      client.Client
	Live        client.Reader
	Connections *connection.Manager

	turns sync.Map // types.NamespacedName of a cluster → struct{}: one of its pools is looked at
}

// Observed is all that a decision about a pool rests on.
type Observed struct {
	Pool    *v1alpha1.BlockPool
	Cluster *v1alpha1.StorageCluster
	// Siblings are all BlockPools of the cluster, this one among them.
	Siblings []v1alpha1.BlockPool
	Nodes    []corev1.Node
	// ClaimHosts are the hosts that OSDs on portable claims are in Ceph's CRUSH map.
	ClaimHosts []corev1.Node
	Cred       ceph.Credentials
	Conn       ceph.Conn
	// InCeph is the pool of the volumes' data as it is, Images that of their images: the same
	// one unless it is erasure-coded. Nil when there is none.
	InCeph, Images *ceph.Pool
	StorageClass   *storagev1.StorageClass
	// Held is the work that is left when some of it waits for approval.
	Held []v1alpha1.PlanStep
}

// stop is a reason not to go on, which becomes the Ready condition.
type stop struct {
	reason, message string
	again           time.Duration
}

func (s *stop) Error() string { return s.message }

// Reconcile takes one look at a pool and does what can be done now. The pools of a cluster have
// users and options of Ceph in common: they are looked at in turn, and hold up no other cluster's.
func (r *Reconciler) Reconcile(ctx context.Context, cached *v1alpha1.BlockPool) (ctrl.Result, error) {
	owner := types.NamespacedName{Namespace: cached.Namespace, Name: cached.Spec.Cluster}
	if _, taken := r.turns.LoadOrStore(owner, struct{}{}); taken {
		return ctrl.Result{RequeueAfter: lookInTurn}, nil
	}
	defer r.turns.Delete(owner)
	return r.look(ctx, cached)
}

func (r *Reconciler) look(ctx context.Context, cached *v1alpha1.BlockPool) (ctrl.Result, error) {
	// The status says since when something is so: the cache may not know yet what the last look wrote there.
	pool := &v1alpha1.BlockPool{}
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(cached), pool); err != nil {
		return ctrl.Result{}, client.IgnoreNotFound(err)
	}
	if pool.DeletionTimestamp != nil {
		return r.remove(ctx, pool)
	}
	if controllerutil.AddFinalizer(pool, kube.Finalizer) {
		if err := r.Client.Update(ctx, pool); err != nil {
			return ctrl.Result{}, fmt.Errorf("protect the BlockPool: %w", err)
		}
	}
	observed, err := r.observe(ctx, pool)
	if err == nil {
		err = r.apply(ctx, observed)
	}
	return r.finish(ctx, pool, observed, err)
}

// finish writes the status and says when to look again.
func (r *Reconciler) finish(ctx context.Context, pool *v1alpha1.BlockPool, o *Observed, failure error) (ctrl.Result, error) {
	ready := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAsSpecified, Message: "as specified"}
	again := lookAgain
	var s *stop
	switch {
	case errors.As(failure, &s):
		ready.Status, ready.Reason, ready.Message, again = metav1.ConditionFalse, s.reason, s.message, s.again
		failure = nil
	case failure != nil:
		ready.Status, ready.Reason, ready.Message = metav1.ConditionFalse, v1alpha1.ReasonProgressing, failure.Error()
	}
	status := *pool.Status.DeepCopy()
	status.ObservedGeneration, ready.ObservedGeneration = pool.Generation, pool.Generation
	if status.Plan = nil; o != nil {
		status.Plan = o.Held
	}
	if failure == nil && s == nil {
		if now, images, err := find(ctx, o.Conn, pool); err == nil && now != nil && images != nil {
			fill(&status, now, images)
			fullCondition(&ready, now)
		}
		status.Redundancy = pool.Spec.Redundancy()
		if busy := placing(ctx, o); busy != "" && ready.Status == metav1.ConditionTrue {
			ready.Reason, ready.Message, again = v1alpha1.ReasonPlacingData, "as specified; Ceph is still placing data: "+busy, lookAgainPlacing
		}
		status.StorageClass = storageClassName(pool)
	}
	meta.SetStatusCondition(&status.Conditions, ready)
	return ctrl.Result{RequeueAfter: again}, errors.Join(failure, r.writeStatus(ctx, pool, status))
}

// fullCondition says that a pool takes no writes, because its quota is used up.
func fullCondition(ready *metav1.Condition, now *ceph.Pool) {
	if quota := now.Spec.QuotaBytes; quota > 0 && now.BytesStored >= quota {
		ready.Status, ready.Reason = metav1.ConditionFalse, v1alpha1.ReasonFull
		ready.Message = fmt.Sprintf("Ceph takes no more writes: %s are stored, and spec.quota is %s. Raise spec.quota, or delete volumes", limit(now.BytesStored), limit(quota))
	}
}

func fill(status *v1alpha1.BlockPoolStatus, now, images *ceph.Pool) {
	status.PoolID = images.ID
	status.Stored = resource.NewQuantity(now.BytesStored>>20<<20, resource.BinarySI)
	status.Available = resource.NewQuantity(now.BytesAvailable>>20<<20, resource.BinarySI)
}

func (r *Reconciler) writeStatus(ctx context.Context, pool *v1alpha1.BlockPool, status v1alpha1.BlockPoolStatus) error {
	if equality.Semantic.DeepEqual(pool.Status, status) {
		return nil
	}
	before := pool.DeepCopy()
	pool.Status = status
	return kube.WriteStatus(ctx, r.Client, pool, before)
}

func (r *Reconciler) observe(ctx context.Context, pool *v1alpha1.BlockPool) (*Observed, error) {
	o := &Observed{Pool: pool, Cluster: &v1alpha1.StorageCluster{}}
	err := r.Client.Get(ctx, client.ObjectKey{Namespace: pool.Namespace, Name: pool.Spec.Cluster}, o.Cluster)
	switch {
	case apierrors.IsNotFound(err):
		return nil, &stop{v1alpha1.ReasonClusterNotFound, fmt.Sprintf("spec.cluster: there is no StorageCluster %q in namespace %s", pool.Spec.Cluster, pool.Namespace), lookAgain}
	case err != nil:
		return nil, fmt.Errorf("read the StorageCluster: %w", err)
	case o.Cluster.Status.FSID == "" || o.Cluster.Status.OSDs.Ready == 0:
		return nil, &stop{v1alpha1.ReasonClusterNotReady, fmt.Sprintf("StorageCluster %s has no OSD yet", pool.Spec.Cluster), lookAgain}
	}
	if err := r.observeKubernetes(ctx, o); err != nil {
		return nil, err
	}
	return o, r.observeCeph(ctx, o)
}

func (r *Reconciler) observeKubernetes(ctx context.Context, o *Observed) error {
	var pools v1alpha1.BlockPoolList
	// The cache may not know yet that a pool was made in the last turn: its users would lose it.
	if err := r.Live.List(ctx, &pools, client.InNamespace(o.Pool.Namespace)); err != nil {
		return fmt.Errorf("list BlockPools: %w", err)
	}
	kube.Sort(pools.Items)
	for _, pool := range pools.Items {
		if pool.Spec.Cluster == o.Pool.Spec.Cluster {
			o.Siblings = append(o.Siblings, pool)
		}
	}
	var nodes corev1.NodeList
	if err := r.Client.List(ctx, &nodes); err != nil {
		return fmt.Errorf("list nodes: %w", err)
	}
	o.Nodes = nodes.Items
	kube.Sort(o.Nodes)
	var secrets corev1.SecretList
	if err := r.Client.List(ctx, &secrets, client.InNamespace(o.Pool.Namespace), client.MatchingLabels(kube.Labels(o.Cluster, osd.Component, ""))); err != nil {
		return fmt.Errorf("list the Secrets of the OSDs: %w", err)
	}
	kube.Sort(secrets.Items)
	for i := range secrets.Items {
		if host, ok := osd.ClaimHost(&secrets.Items[i]); ok {
			o.ClaimHosts = append(o.ClaimHosts, host)
		}
	}
	if name := storageClassName(o.Pool); name != "" {
		var class storagev1.StorageClass
		switch err := r.Client.Get(ctx, client.ObjectKey{Name: name}, &class); {
		case err == nil:
			o.StorageClass = &class
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("read StorageClass %s: %w", name, err)
		}
	}
	return nil
}

func (r *Reconciler) observeCeph(ctx context.Context, o *Observed) (err error) {
	if o.Cred, err = cluster.Credentials(ctx, r.Client, o.Cluster); err != nil {
		return err
	}
	if o.Conn, err = r.Connections.Get(o.Cluster, o.Cred); err != nil {
		return &stop{v1alpha1.ReasonCephUnreachable, err.Error(), lookAgainSoon}
	}
	ctx, cancel := context.WithTimeout(ctx, connection.Timeout)
	defer cancel()
	if o.InCeph, o.Images, err = find(ctx, o.Conn, o.Pool); err != nil {
		r.Connections.Failed(o.Cluster, o.Conn, err)
	}
	return err
}

// find returns the pools of a BlockPool's data and of its images.
func find(ctx context.Context, conn ceph.Conn, pool *v1alpha1.BlockPool) (data, images *ceph.Pool, err error) {
	pools, err := conn.Pools(ctx)
	for i := range pools {
		if pools[i].Spec.Name == dataName(pool) {
			data = &pools[i]
		}
		if pools[i].Spec.Name == pool.Name {
			images = &pools[i]
		}
	}
	return data, images, err
}

// SetupWithManager registers the reconciler and what wakes it.
func (r *Reconciler) SetupWithManager(mgr ctrl.Manager) error {
	every := handler.EnqueueRequestsFromMapFunc(r.everyPool)
	return ctrl.NewControllerManagedBy(mgr).
		For(&v1alpha1.BlockPool{}).
		Watches(&v1alpha1.StorageCluster{}, every, clusterChanges).
		Watches(&corev1.Node{}, every, nodeSet).
		Complete(reconcile.AsReconciler(r.Client, r))
}

func (r *Reconciler) everyPool(ctx context.Context, _ client.Object) (requests []reconcile.Request) {
	var pools v1alpha1.BlockPoolList
	if err := r.Client.List(ctx, &pools); err != nil {
		return nil
	}
	for i := range pools.Items {
		requests = append(requests, reconcile.Request{NamespacedName: client.ObjectKeyFromObject(&pools.Items[i])})
	}
	return requests
}
