package pool

import (
	"context"
	"fmt"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
)

// snapshotKinds are the classes of snapshots. They are no part of Kubernetes: a
// cluster may have none of them, or get them later.
var snapshotKinds = []schema.GroupVersionKind{
	{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotClass"},
	{Group: "groupsnapshot.storage.k8s.io", Version: "v1", Kind: "VolumeGroupSnapshotClass"},
}

func poolLabel(pool *v1alpha1.BlockPool) string { return pool.Namespace + "." + pool.Name }

// snapshotClass of a pool, of a kind.
func snapshotClass(o *Observed, kind schema.GroupVersionKind) *unstructured.Unstructured {
	class := &unstructured.Unstructured{Object: map[string]any{
		"driver": csidriver.BlockDriver, "deletionPolicy": "Delete",
		"parameters": map[string]any{"clusterID": o.Cred.FSID},
	}}
	class.SetGroupVersionKind(kind)
	class.SetName(storageClassName(o.Pool))
	class.SetLabels(map[string]string{kube.LabelManagedBy: kube.Manager, labelPool: poolLabel(o.Pool)})
	return class
}

// liveSnapshotClass reads the class of a name, nil when there is none or the
// cluster does not know the kind.
func (r *Reconciler) liveSnapshotClass(ctx context.Context, kind schema.GroupVersionKind, name string) (class *unstructured.Unstructured, known bool, err error) {
	if _, err := r.Client.RESTMapper().RESTMapping(kind.GroupKind(), kind.Version); err != nil {
		if meta.IsNoMatchError(err) {
			return nil, false, nil
		}
		return nil, false, fmt.Errorf("look for %s: %w", kind.Kind, err)
	}
	class = &unstructured.Unstructured{}
	class.SetGroupVersionKind(kind)
	err = r.Live.Get(ctx, client.ObjectKey{Name: name}, class)
	if apierrors.HasStatusCause(err, metav1.CauseTypeUnexpectedServerResponse) {
		return nil, false, nil // the kind itself is gone
	}
	if client.IgnoreNotFound(err) != nil {
		return nil, true, fmt.Errorf("read %s %s: %w", kind.Kind, name, err)
	}
	if err != nil {
		return nil, true, nil
	}
	return class, true, nil
}

func (r *Reconciler) ensureSnapshotClasses(ctx context.Context, o *Observed) error {
	for _, kind := range snapshotKinds {
		want := snapshotClass(o, kind)
		live, known, err := r.liveSnapshotClass(ctx, kind, want.GetName())
		switch {
		case err != nil:
			return err
		case !known:
			continue
		case live == nil:
			err = kube.Apply(ctx, r.Client, want)
		case live.GetLabels()[labelPool] != poolLabel(o.Pool):
			return &stop{v1alpha1.ReasonNameTaken, fmt.Sprintf("spec.storageClass.name: a %s %q that this pool did not make exists. Choose another name, or delete that one", kind.Kind, want.GetName()), lookAgain}
		default:
			err = r.write(ctx, live, want)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// removeSnapshotClasses deletes those that are the pool's own.
func (r *Reconciler) removeSnapshotClasses(ctx context.Context, pool *v1alpha1.BlockPool, name string) error {
	for _, kind := range snapshotKinds {
		live, _, err := r.liveSnapshotClass(ctx, kind, name)
		if err != nil {
			return err
		}
		if live == nil || live.GetLabels()[labelPool] != poolLabel(pool) {
			continue
		}
		uid := live.GetUID()
		if err := client.IgnoreNotFound(r.Client.Delete(ctx, live, client.Preconditions{UID: &uid})); err != nil {
			return fmt.Errorf("delete %s %s: %w", kind.Kind, name, err)
		}
	}
	return nil
}
