package pool

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"time"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
)

// remove deletes a pool that holds no image, and its StorageClass. A pool that
// holds some stays, and says so.
func (r *Reconciler) remove(ctx context.Context, pool *v1alpha1.BlockPool) (ctrl.Result, error) {
	var owner v1alpha1.StorageCluster
	err := r.Live.Get(ctx, client.ObjectKey{Namespace: pool.Namespace, Name: pool.Spec.Cluster}, &owner)
	switch {
	case apierrors.IsNotFound(err):
		return ctrl.Result{}, r.letGo(ctx, pool) // a pool of no cluster holds nothing that Cairn could reach
	case err != nil:
		return ctrl.Result{}, fmt.Errorf("read the StorageCluster: %w", err)
	case owner.Status.FSID == "":
		return ctrl.Result{}, r.letGo(ctx, pool)
	}
	o := &Observed{Pool: pool, Cluster: &owner}
	if err := r.observeCeph(ctx, o); err != nil {
		if cluster.ToBeDestroyed(&owner) {
			return ctrl.Result{}, r.letGo(ctx, pool) // its data goes with the cluster's disks
		}
		return r.refuse(ctx, pool, v1alpha1.ReasonCephUnreachable, fmt.Sprintf("not deleted yet: %v", err), lookAgainSoon)
	}
	if is := o.foreign(); is != "" {
		return ctrl.Result{}, r.letGo(ctx, pool) // what is not the BlockPool's stays
	}
	ctx, cancel := context.WithTimeout(ctx, 3*connection.Timeout)
	defer cancel()
	if o.Images == nil && pool.Spec.ErasureCoded == nil {
		// An operator that ended in RemovePool has left this behind.
		if err := o.Conn.UnsetConfig(ctx, "mon", "mon_allow_pool_delete"); err != nil {
			return ctrl.Result{}, err
		}
		return ctrl.Result{}, r.letGo(ctx, pool)
	}
	// The classes that Cairn made go first, and then it is looked once more: nobody begins a volume by them any more.
	for _, last := range []bool{false, true} {
		images, err := o.images(ctx)
		if err != nil {
			return ctrl.Result{}, err
		}
		if len(images) > 0 {
			return r.refuse(ctx, pool, v1alpha1.ReasonInUse, "not deleted, because the pool holds "+holds(images), lookAgain)
		}
		if !last {
			if err := r.removeClasses(ctx, pool); err != nil {
				return ctrl.Result{}, err
			}
		}
	}
	for _, gone := range slices.Backward(wanted(pool)) { // without its images, data belongs to nobody
		if err := o.Conn.RemovePool(ctx, gone.Name); err != nil && !ceph.Is(err, ceph.NotFound) {
			return ctrl.Result{}, err
		}
	}
	return ctrl.Result{}, r.letGo(ctx, pool)
}

// named is how many volumes are named where a pool holds many.
const named = 5

// holds says what a pool holds, by name, and what is to be done about it.
func holds(images []string) string {
	volumes := slices.DeleteFunc(slices.Clone(images), func(name string) bool {
		return strings.HasPrefix(name, ceph.HiddenPrefix)
	})
	slices.Sort(volumes)
	var parts []string
	if n := len(volumes); n > 0 {
		list := strings.Join(volumes[:min(n, named)], ", ")
		if n > named {
			list += ", …"
		}
		parts = append(parts, fmt.Sprintf("%d volumes (%s): delete their claims first, 'kubectl get pv' shows them", n, list))
	}
	if n := len(images) - len(volumes); n > 0 {
		parts = append(parts, fmt.Sprintf("%d deleted volumes, which go when their last snapshot and clone does", n))
	}
	return strings.Join(parts, "; and ")
}

func (r *Reconciler) refuse(ctx context.Context, pool *v1alpha1.BlockPool, reason, message string, again time.Duration) (ctrl.Result, error) {
	status := *pool.Status.DeepCopy()
	meta.SetStatusCondition(&status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionFalse,
		Reason: reason, Message: message, ObservedGeneration: pool.Generation})
	return ctrl.Result{RequeueAfter: again}, r.writeStatus(ctx, pool, status)
}

// images that the pool holds; none where Ceph has no pool of images.
func (o *Observed) images(ctx context.Context) ([]string, error) {
	if o.Images == nil {
		return nil, nil
	}
	return o.Conn.PoolImages(ctx, o.Pool.Name)
}

// letGo deletes the classes that are the pool's own, and the finalizer.
func (r *Reconciler) letGo(ctx context.Context, pool *v1alpha1.BlockPool) error {
	if err := r.removeClasses(ctx, pool); err != nil {
		return err
	}
	if controllerutil.RemoveFinalizer(pool, kube.Finalizer) {
		if err := r.Client.Update(ctx, pool); err != nil {
			return fmt.Errorf("let go of the BlockPool: %w", err)
		}
	}
	return nil
}

// removeClasses deletes the classes that are the pool's own.
func (r *Reconciler) removeClasses(ctx context.Context, pool *v1alpha1.BlockPool) error {
	if name := storageClassName(pool); name != "" {
		if err := r.removeSnapshotClasses(ctx, pool, name); err != nil {
			return err
		}
		var class storagev1.StorageClass
		err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &class)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read StorageClass %s: %w", name, err)
		}
		if err == nil && class.Labels[labelPool] == poolLabel(pool) {
			if err := client.IgnoreNotFound(r.Client.Delete(ctx, &class, client.Preconditions{UID: &class.UID})); err != nil {
				return fmt.Errorf("delete StorageClass %s: %w", name, err)
			}
		}
	}
	return nil
}
