package cluster

import (
	"context"
	"fmt"
	"slices"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// A StorageCluster whose data was kept when it was deleted is taken up again by one
// of the same name. What is kept: the devices and the mons' stores on the nodes, the
// Secrets with the keys, and the mons' Services, which say where each mon has its
// store and hold its address. All three have to fit, or nothing is started.

// mismatchError says that the keys are of another cluster than the data.
type mismatchError struct{ secret, keys, data string }

func (e *mismatchError) Error() string {
	return fmt.Sprintf("the Secret %s has the keys of the cluster with fsid %s, but the mons' stores are of the one with fsid %s", e.secret, e.keys, e.data)
}

// founded is the fsid that this cluster has begun with; empty for a new one.
func (o *Observed) founded() string {
	if o.Cluster.Status.FSID != "" {
		return o.Cluster.Status.FSID
	}
	for _, service := range monServices(o.Services) {
		if fsid := service.Annotations[kube.AnnotationFSID]; fsid != "" {
			return fsid
		}
	}
	return ""
}

// refuseOtherKeys sets keys aside that do not fit the data.
func (o *Observed) refuseOtherKeys() {
	if data := o.founded(); o.Keys != nil && data != "" && data != o.Keys.FSID {
		o.KeysError = &mismatchError{KeysName(o.Cluster), o.Keys.FSID, data}
		o.Keys = nil
	}
}

// hadKeys reports whether anything was ever made with the cluster's keys.
func (o *Observed) hadKeys() bool {
	return o.founded() != "" || len(o.Deployments) > 0 || o.hasData()
}

// hasData reports whether OSDs were made: that takes a quorum, so the mons' stores
// know things that new ones would not.
func (o *Observed) hasData() bool { return len(o.OSDKeys) > 0 }

// monsMissing reports whether nothing says any more where the mons of a cluster with
// data have their stores.
func (o *Observed) monsMissing() bool {
	return o.hasData() && len(o.Mons) == 0
}

// takesUp reports whether data is there of which this StorageCluster has not seen a quorum.
func (o *Observed) takesUp() bool {
	return o.hasData() && o.Cluster.Status.FSID == "" && recovered(o.Cluster) == nil
}

// servicesMissing says how many mons have no Service, when data is taken up again.
func (o *Observed) servicesMissing() []string {
	missing := int(o.Cluster.Spec.Mon.Count) - len(o.Mons)
	if !o.takesUp() || missing <= 0 {
		return nil
	}
	return []string{fmt.Sprintf("%d of %d by spec.mon.count, whose Services are not there: restore them (%s) from a backup, with their annotations and cluster IPs",
		missing, o.Cluster.Spec.Mon.Count, mon.ObjectName(o.Cluster, "…"))}
}

// noMoreMons reports whether mons are only added later: those that have the data
// have to agree first.
func (o *Observed) noMoreMons() bool { return o.Ceph == nil && o.hasData() }

func monsMissing(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	if !o.monsMissing() {
		return nil
	}
	return blocker(v1alpha1.ReasonMonsMissing, "the Services of the cluster's mons are gone, which say where each mon has its store and which address it has. New mons would know nothing of the data, so none is started. Restore the Services %s from a backup, with their annotations and cluster IPs",
		mon.ObjectName(o.Cluster, "…"))
}

// onOtherNetwork reports whether the mons have addresses of another network than the
// spec's: their stores name these addresses, and mons with others would not find each other.
func (o *Observed) onOtherNetwork() bool {
	return slices.ContainsFunc(monServices(o.Services), func(s corev1.Service) bool {
		return (s.Spec.ClusterIP == corev1.ClusterIPNone) != mon.OnHost(o.Cluster)
	})
}

func networkMismatch(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	if !o.onOtherNetwork() {
		return nil
	}
	was := "host"
	if mon.OnHost(o.Cluster) {
		was = "pod"
	}
	return blocker(v1alpha1.ReasonNetworkMismatch, "the mons of the data that was kept have addresses of the %s network, which their stores name, so none is started with others. Delete this StorageCluster with spec.deletion.policy Retain, and make it with spec.network.provider: %s",
		was, was)
}

// lastMon is the last name that a mon was given.
func (o *Observed) lastMon() string {
	if mon.CompareNames(o.keptLastMon, o.Cluster.Status.LastMon) > 0 {
		return o.keptLastMon
	}
	return o.Cluster.Status.LastMon
}

// keepLastMon writes the last name of a mon down where a StorageCluster that takes
// the data up again finds it: stores of mons that are no more may lie on the nodes.
func (r *Reconciler) keepLastMon(ctx context.Context, o *Observed) error {
	last := mon.Last(o.Mons, o.lastMon())
	if o.Keys == nil || last == o.keptLastMon {
		return nil
	}
	secret := &corev1.Secret{}
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: KeysName(o.Cluster)}, secret); err != nil {
		return fmt.Errorf("read the keys: %w", err)
	}
	before := secret.DeepCopy()
	if secret.Annotations == nil {
		secret.Annotations = map[string]string{}
	}
	secret.Annotations[kube.AnnotationLastMon] = last
	if err := r.Client.Patch(ctx, secret, client.MergeFrom(before)); err != nil {
		return fmt.Errorf("write down the last mon's name: %w", err)
	}
	return nil
}
