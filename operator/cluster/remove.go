package cluster

import (
	"context"
	"errors"
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"
	ctrl "sigs.k8s.io/controller-runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/controller/controllerutil"

	"k8s.io/apimachinery/pkg/api/meta"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
)

// remove lets go of a deleted cluster once nothing uses it, after it was destroyed
// if that is what the spec says. It returns what uses it still: such a cluster is
// looked after as ever.
func (r *Reconciler) remove(ctx context.Context, cluster *v1alpha1.StorageCluster) (inUse string, result ctrl.Result, err error) {
	t, err := r.observeTeardown(ctx, cluster)
	if err != nil {
		return "", ctrl.Result{}, err
	}
	if !destroying(cluster) {
		if inUse, err = r.usedBy(ctx, t); inUse != "" || err != nil {
			return inUse, ctrl.Result{}, err
		}
		if cluster.Spec.Deletion.Policy != v1alpha1.DeletionDestroy {
			if recovering(cluster) != nil {
				return "not deleted before its quorum is rebuilt, so that what is kept is of one mind", ctrl.Result{}, nil
			}
			return "", ctrl.Result{}, r.retain(ctx, t.Observed)
		}
	}
	steps := t.Plan()
	if len(steps) == 0 {
		return "", ctrl.Result{}, r.letGo(ctx, cluster)
	}
	worked, applyErr := r.apply(ctx, t.Observed, steps)
	r.tell(cluster, steps)
	if err := errors.Join(applyErr, r.writeStatus(ctx, cluster, teardownStatus(t, steps))); err != nil {
		return "", ctrl.Result{}, err
	}
	return "", ctrl.Result{RequeueAfter: r.next(worked, cluster, len(steps))}, nil
}

// listed is how many things are named where there are many.
const listed = 10

// usedBy names the BlockPools and volumes of a cluster. A BlockPool is not let go of
// while it holds an image.
func (r *Reconciler) usedBy(ctx context.Context, t *Teardown) (string, error) {
	var using []string
	for i := range t.Pools {
		using = append(using, "BlockPool "+t.Pools[i].Name)
	}
	var volumes corev1.PersistentVolumeList
	if err := r.Live.List(ctx, &volumes); err != nil {
		return "", fmt.Errorf("list PersistentVolumes: %w", err)
	}
	for _, name := range volumesOf(volumes.Items, csidriver.BlockDriver, t.fsid()) {
		using = append(using, "PersistentVolume "+name)
	}
	if len(using) == 0 {
		return "", nil
	}
	more := ""
	if n := len(using) - listed; n > 0 {
		using, more = using[:listed], fmt.Sprintf(" and %d more", n)
	}
	return fmt.Sprintf("not deleted, because it is used by %s%s. Delete them first; until then it is looked after as ever", strings.Join(using, ", "), more), nil
}

// retain lets go of a cluster whose data stays, after it wrote down what no other
// record has, and ended what empties disks.
func (r *Reconciler) retain(ctx context.Context, o *Observed) error {
	if err := errors.Join(r.keepLastMon(ctx, o), r.endEmptying(ctx, o.Cluster)); err != nil {
		return err
	}
	return r.letGo(ctx, o.Cluster)
}

// letGo removes the finalizer, from the very object that was looked at.
func (r *Reconciler) letGo(ctx context.Context, cluster *v1alpha1.StorageCluster) error {
	r.Connections.Forget(client.ObjectKeyFromObject(cluster))
	if controllerutil.RemoveFinalizer(cluster, kube.Finalizer) {
		if err := r.Client.Update(ctx, cluster); client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("let go of the StorageCluster: %w", err)
		}
	}
	return nil
}

// beginDestruction writes down that the cluster is destroyed. It fails when the
// StorageCluster is not the one that was looked at any more.
func (r *Reconciler) beginDestruction(ctx context.Context, o *Observed) error {
	before := o.Cluster.DeepCopy()
	if o.Cluster.Annotations == nil {
		o.Cluster.Annotations = map[string]string{}
	}
	o.Cluster.Annotations[kube.AnnotationDestroying] = clock(o.Now)
	if err := r.Client.Patch(ctx, o.Cluster, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("write down that the cluster is destroyed: %w", err)
	}
	r.Connections.Forget(client.ObjectKeyFromObject(o.Cluster))
	return nil
}

// teardownStatus says how far the destruction is.
func teardownStatus(t *Teardown, steps []Step) v1alpha1.StorageClusterStatus {
	s := *t.Cluster.Status.DeepCopy()
	s.ObservedGeneration = t.Cluster.Generation
	s.Plan = planOf(steps)
	var held *v1alpha1.Blocker
	for _, rule := range []func(*Observed, *Desired, []Step) *v1alpha1.Blocker{nodeGone, podFailing, stepFailed, gated} {
		if held = rule(t.Observed, &Desired{}, steps); held != nil {
			break
		}
	}
	block(&s, t.Observed, held)
	ready := condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonDeleting, steps[0].What)
	if held != nil {
		ready = condition(v1alpha1.ConditionReady, false, held.Reason, held.Message)
	}
	ready.ObservedGeneration, ready.Message = t.Cluster.Generation, bounded(ready.Message)
	meta.SetStatusCondition(&s.Conditions, ready)
	return s
}

// nodeGone reports a node that is waited for, also while others have work.
func nodeGone(_ *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	for _, s := range steps {
		if s.Gate != "" && s.Reason == v1alpha1.ReasonNodeGone {
			return blocker(v1alpha1.ReasonNodeGone, "'%s' waits until %s", s.What, s.Gate)
		}
	}
	return nil
}

// inUse reports what keeps a deleted cluster.
func inUse(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	if o.InUse == "" {
		return nil
	}
	return blocker(v1alpha1.ReasonInUse, "%s", o.InUse)
}
