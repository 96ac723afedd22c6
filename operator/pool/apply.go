package pool

import (
	"context"
	"fmt"
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// apply makes the pool, then the users that may use it, then the StorageClass:
// a class that is there can be used.
func (r *Reconciler) apply(ctx context.Context, o *Observed) error {
	ctx, cancel := context.WithTimeout(ctx, 3*connection.Timeout)
	defer cancel()
	if err := enoughDomains(ctx, o); err != nil {
		return err
	}
	steps, held := o.plan()
	if len(steps) > 0 && held == nil {
		if err := o.Conn.EnsurePool(ctx, spec(o.Pool)); err != nil {
			return err
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

// spec is the pool as Ceph is asked for it.
func spec(pool *v1alpha1.BlockPool) ceph.PoolSpec {
	s := ceph.PoolSpec{
		Name: pool.Name, Size: int(pool.Spec.Replicas), FailureDomain: pool.Spec.FailureDomain,
		DeviceClass: string(pool.Spec.DeviceClass), Application: "rbd",
	}
	if pool.Spec.Quota != nil {
		s.QuotaBytes = pool.Spec.Quota.Value()
	}
	return s
}

// enoughDomains refuses a pool whose PGs could never be complete.
func enoughDomains(ctx context.Context, o *Observed) error {
	domain := o.Pool.Spec.FailureDomain
	if domain != "host" && domain != "osd" {
		return nil
	}
	osds, err := o.Conn.OSDs(ctx)
	if err != nil {
		return err
	}
	in := slices.DeleteFunc(osds, func(known ceph.OSD) bool { return !known.In })
	found := osd.Domains(in, domain, string(o.Pool.Spec.DeviceClass), nil)
	if found >= int(o.Pool.Spec.Replicas) || o.InCeph != nil {
		return nil
	}
	class := ""
	if o.Pool.Spec.DeviceClass != "" {
		class = fmt.Sprintf(" of device class %q", o.Pool.Spec.DeviceClass)
	}
	return &stop{v1alpha1.ReasonTooFewDomains, fmt.Sprintf("spec.replicas: %d replicas need OSDs%s in %d different %ss; there are %d. Add OSDs, or ask for fewer replicas",
		o.Pool.Spec.Replicas, class, o.Pool.Spec.Replicas, domain, found), lookAgain}
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
