package pool

import (
	"context"
	"fmt"

	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
)

// apply makes the pool, then the users that may use it, then the StorageClass:
// a class that is there can be used.
func (r *Reconciler) apply(ctx context.Context, o *Observed) error {
	ctx, cancel := context.WithTimeout(ctx, 3*connection.Timeout)
	defer cancel()
	if err := o.sound(); err != nil {
		return err
	}
	if o.Images == nil && o.Cluster.DeletionTimestamp != nil {
		return &stop{v1alpha1.ReasonClusterNotReady, fmt.Sprintf("spec.cluster: StorageCluster %s is being deleted: no pool is made in it any more", o.Cluster.Name), lookAgain}
	}
	steps, held := o.plan()
	if len(steps) > 0 && held == nil {
		if err := allowed(ctx, o, spec(o.Pool)); err != nil {
			return err
		}
		for _, want := range wanted(o.Pool) {
			if err := o.Conn.EnsurePool(ctx, want); err != nil {
				return err
			}
		}
	}
	if err := r.ensureUsers(ctx, o); err != nil {
		return err
	}
	if err := r.ensureClasses(ctx, o); err != nil {
		return err
	}
	if held != nil {
		o.Held = steps
	}
	return held
}

// spec is the pool of the volumes' data as Ceph is asked for it.
func spec(pool *v1alpha1.BlockPool) ceph.PoolSpec {
	s := ceph.PoolSpec{
		Name: dataName(pool), Size: pool.Spec.Copies(), FailureDomain: pool.Spec.FailureDomain,
		DeviceClass: string(pool.Spec.DeviceClass), Application: "rbd",
	}
	if coded := pool.Spec.ErasureCoded; coded != nil {
		s.DataChunks, s.CodingChunks = int(coded.DataChunks), int(coded.CodingChunks)
	}
	if pool.Spec.Compression != "none" {
		s.Compression = pool.Spec.Compression
	}
	if pool.Spec.Quota != nil {
		s.QuotaBytes = pool.Spec.Quota.Value()
	}
	return s
}

// ensureClasses makes the StorageClass and, where snapshots are installed, their
// classes.
func (r *Reconciler) ensureClasses(ctx context.Context, o *Observed) error {
	if o.Pool.Spec.StorageClass == nil {
		return nil
	}
	class, err := storageClass(o)
	if err != nil {
		return err
	}
	if err := r.ensureStorageClass(ctx, o.StorageClass, class); err != nil {
		return err
	}
	return r.ensureSnapshotClasses(ctx, o)
}

// ensureStorageClass replaces a class whose parameters changed: Kubernetes lets
// no one edit them, and volumes that exist do not depend on their class.
func (r *Reconciler) ensureStorageClass(ctx context.Context, live, want *storagev1.StorageClass) error {
	if live == nil {
		return kube.Apply(ctx, r.Client, want)
	}
	if frozenPartsDiffer(live, want) {
		precondition := client.Preconditions{UID: &live.UID, ResourceVersion: &live.ResourceVersion}
		if err := r.Client.Delete(ctx, live, precondition); err != nil {
			return fmt.Errorf("replace StorageClass %s: %w", live.Name, err)
		}
		return kube.Apply(ctx, r.Client, want)
	}
	return r.write(ctx, live, want)
}

func (r *Reconciler) write(ctx context.Context, live, want client.Object) error {
	differs, err := kube.Differs(live, want)
	if err != nil || !differs {
		return err
	}
	return kube.Apply(ctx, r.Client, want)
}
