// Package kube is what every reconciler needs of Kubernetes: labels and names,
// and writing an object only when it differs.
package kube

import (
	"slices"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// The labels and annotations of what Cairn makes.
const (
	LabelManagedBy = "app.kubernetes.io/managed-by"
	LabelComponent = "app.kubernetes.io/component"
	LabelInstance  = "app.kubernetes.io/instance"
	LabelCluster   = "cairn.storage/cluster"
	LabelOSD       = "cairn.storage/osd"

	AnnotationNode = "cairn.storage/node"
	// AnnotationOptions of a daemon's pod are the options that it reads when it starts.
	AnnotationOptions = "cairn.storage/options-read-at-start"
	AnnotationMembers = "cairn.storage/founding-members"
	AnnotationDevice  = "cairn.storage/device"
	// AnnotationClaim of an OSD's Secret or Deployment is the claim that the OSD lives on.
	AnnotationClaim = "cairn.storage/claim"
	// AnnotationClaimSize of an OSD's pod is the size of its claim when it was started:
	// one that has grown is used from the next start on.
	AnnotationClaimSize = "cairn.storage/claim-size"
	// AnnotationMissing of a mon's Service is since when the mon is out of quorum.
	AnnotationMissing = "cairn.storage/out-of-quorum-since"
	// AnnotationAddress of a mon's Service is the mon's address in the host network.
	AnnotationAddress = "cairn.storage/address"
	// AnnotationJoined of a mon's Service says that the mon was in quorum: it does not
	// run without its store any more.
	AnnotationJoined = "cairn.storage/was-in-quorum"
	// AnnotationApart of a mon's Service is a client ID, and the run of the mon (its pod and
	// container) that gave it and gives only such as no mon gave before it began: ID@RUN.
	AnnotationApart = "cairn.storage/client-ids-of-its-own"
	// AnnotationFSID of a mon's Service, or of an OSD's claim, is the fsid of the cluster that it is of.
	AnnotationFSID = "cairn.storage/fsid"
	// AnnotationLastMon of the Secret with the keys is the last name that a mon was
	// given, while no StorageCluster remembers it.
	AnnotationLastMon = "cairn.storage/last-mon"
	AnnotationUUID    = "cairn.storage/osd-uuid"
	// AnnotationWeighed of an OSD's Secret is the size, in bytes, for which its CRUSH weight was looked at.
	AnnotationWeighed = "cairn.storage/weighed-for-bytes"
	// AnnotationChosenWeight of an OSD's Secret says that its CRUSH weight comes from the spec, or did
	// until now: only such a one goes back to that of the size.
	AnnotationChosenWeight = "cairn.storage/weight-from-spec"
	// AnnotationDB is the device that has an OSD's database; none is the OSD's own.
	AnnotationDB = "cairn.storage/db-device"
	// AnnotationEncrypted of an OSD's Deployment says that its device is encrypted.
	AnnotationEncrypted = "cairn.storage/encrypted"
	// AnnotationKeyGeneration of a Secret is that of its key, where it is not the first,
	// AnnotationNextKeyGeneration that of the key that comes next.
	AnnotationKeyGeneration     = "cairn.storage/key-generation"
	AnnotationNextKeyGeneration = "cairn.storage/next-key-generation"
	// AnnotationLeaving of an OSD's Secret says that the OSD is being removed.
	AnnotationLeaving = "cairn.storage/leaving"
	// AnnotationGivenUp of an OSD's Secret says that the quorum was rebuilt without asking the
	// OSD, by the name of what was collected: it never starts again.
	AnnotationGivenUp = "cairn.storage/given-up"
	// AnnotationDestroying of a StorageCluster is since when it is destroyed: there is
	// no way back.
	AnnotationDestroying = "cairn.storage/destroying-since"
	// AnnotationMonRecovery of a StorageCluster is the last rebuilding of its quorum from
	// one mon, as JSON: under way until it says when it was finished.
	AnnotationMonRecovery = "cairn.storage/mon-recovery"
	// AnnotationApplied is a hash of what was last applied.
	AnnotationApplied = "cairn.storage/applied"

	// Manager is the field manager of every write, and the value of LabelManagedBy.
	Manager = "cairn-operator"
	// Finalizer holds a resource until Cairn has let go of what it stands for.
	Finalizer = "cairn.storage/protect"
)

// Labels of an object that belongs to a cluster.
func Labels(cluster *v1alpha1.StorageCluster, component, instance string) map[string]string {
	labels := map[string]string{
		LabelManagedBy: Manager,
		LabelComponent: component,
		LabelCluster:   cluster.Name,
	}
	if instance != "" {
		labels[LabelInstance] = instance
	}
	return labels
}

// Meta is the metadata of an object that belongs to a cluster and goes with it.
func Meta(cluster *v1alpha1.StorageCluster, name, component, instance string) metav1.ObjectMeta {
	meta := Kept(cluster, name, component, instance)
	meta.OwnerReferences = []metav1.OwnerReference{*metav1.NewControllerRef(cluster, v1alpha1.GroupVersion.WithKind("StorageCluster"))}
	return meta
}

// Kept is the metadata of an object that stays when its cluster is deleted.
func Kept(cluster *v1alpha1.StorageCluster, name, component, instance string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: cluster.Namespace, Name: name, Labels: Labels(cluster, component, instance), Annotations: map[string]string{}}
}

// NodeReady reports whether a node takes pods: ready, and not cordoned.
func NodeReady(node *corev1.Node) bool {
	return !node.Spec.Unschedulable && NodeAnswers(node)
}

// Tolerated reports whether pods with these tolerations may be on a node with a taint.
func Tolerated(taint corev1.Taint, tolerations []corev1.Toleration) bool {
	return slices.ContainsFunc(tolerations, func(t corev1.Toleration) bool {
		if t.Effect != "" && t.Effect != taint.Effect || t.Key != "" && t.Key != taint.Key {
			return false
		}
		return t.Operator == corev1.TolerationOpExists || t.Key != "" && t.Value == taint.Value
	})
}

// NodeAnswers reports whether a node's kubelet says that it is ready.
func NodeAnswers(node *corev1.Node) bool {
	c := ReadyCondition(node)
	return c != nil && c.Status == corev1.ConditionTrue
}

// ReadyCondition is what a node's kubelet says of itself, or is said of it; nil while nothing is.
func ReadyCondition(node *corev1.Node) *corev1.NodeCondition {
	at := slices.IndexFunc(node.Status.Conditions, func(c corev1.NodeCondition) bool { return c.Type == corev1.NodeReady })
	if at < 0 {
		return nil
	}
	return &node.Status.Conditions[at]
}
