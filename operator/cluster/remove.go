package cluster

import (
	"context"
	"fmt"
	"strings"

	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

// remove lets go of a deleted cluster once nothing uses it. Its daemons go with
// it; devices, mon stores and keys stay.
func (r *Reconciler) remove(ctx context.Context, cluster *v1alpha1.StorageCluster) (ctrl.Result, error) {
	var pools v1alpha1.BlockPoolList
	if err := r.Live.List(ctx, &pools, client.InNamespace(cluster.Namespace)); err != nil {
		return ctrl.Result{}, fmt.Errorf("list BlockPools: %w", err)
	}
	var using []string
	for _, pool := range pools.Items {
		if pool.Spec.Cluster == cluster.Name {
			using = append(using, pool.Name)
		}
	}
	if len(using) > 0 {
		return ctrl.Result{RequeueAfter: lookAgain}, r.refuse(ctx, cluster, v1alpha1.ReasonInUse,
			fmt.Sprintf("not deleted, because these BlockPools use it: %s. Delete them first", strings.Join(using, ", ")))
	}
	r.Connections.Forget(client.ObjectKeyFromObject(cluster))
	if controllerutil.RemoveFinalizer(cluster, kube.Finalizer) {
		if err := r.Client.Update(ctx, cluster); err != nil {
			return ctrl.Result{}, fmt.Errorf("let go of the StorageCluster: %w", err)
		}
	}
	return ctrl.Result{}, nil
}
