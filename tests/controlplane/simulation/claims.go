package simulation

import (
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
)

// claimed is where the devices of claims are among the disks.
const claimed = "claimed"

// local is the StorageClass of volumes that are bound to a node each; those of any other are
// for all nodes.
const local = "local"

func (w *World) claims() []corev1.PersistentVolumeClaim {
	var claims corev1.PersistentVolumeClaimList
	require.NoError(w.t, w.Client.List(w.context(), &claims, client.InNamespace(w.Namespace)))
	return claims.Items
}

// provide gives each claim a blank device from its first moment on, and a volume once a pod
// of some Deployment is to have it, as a StorageClass does that waits for the first consumer.
func (w *World) provide() {
	for _, claim := range w.claims() {
		at := claimed + "/" + claim.Name
		if d := w.disks[at]; d == nil || d.claim != claim.UID {
			w.disks[at] = &disk{node: claimed, name: claim.Name, claim: claim.UID}
		}
		if claim.Status.Phase != corev1.ClaimBound && w.consumed(claim.Name) {
			w.bind(&claim)
		}
		asked := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		if has := claim.Status.Capacity[corev1.ResourceStorage]; claim.Status.Phase == corev1.ClaimBound && has.Cmp(asked) < 0 {
			claim.Status.Capacity = claim.Spec.Resources.Requests
			require.NoError(w.t, w.Client.Status().Update(w.context(), &claim))
		}
	}
}

// consumed reports whether a Deployment has pods that use a claim.
func (w *World) consumed(name string) bool {
	var deployments appsv1.DeploymentList
	require.NoError(w.t, w.Client.List(w.context(), &deployments, client.InNamespace(w.Namespace)))
	return slices.ContainsFunc(deployments.Items, func(d appsv1.Deployment) bool { return d.Annotations[kube.AnnotationClaim] == name })
}

func (w *World) bind(claim *corev1.PersistentVolumeClaim) {
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv-" + string(claim.UID)}, Spec: corev1.PersistentVolumeSpec{
		Capacity: claim.Spec.Resources.Requests, AccessModes: claim.Spec.AccessModes, VolumeMode: claim.Spec.VolumeMode, PersistentVolumeReclaimPolicy: corev1.PersistentVolumeReclaimDelete,
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: "simulated", VolumeHandle: string(claim.UID)}},
	}}
	if ptr.Deref(claim.Spec.StorageClassName, "") == local {
		node := Nodes[int(claim.Name[len(claim.Name)-1]-'0')%len(Nodes)]
		volume.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
			MatchExpressions: []corev1.NodeSelectorRequirement{{Key: corev1.LabelHostname, Operator: corev1.NodeSelectorOpIn, Values: []string{node}}}}}}}
	}
	require.NoError(w.t, w.Client.Create(w.context(), volume))
	claim.Spec.VolumeName = volume.Name
	require.NoError(w.t, w.Client.Update(w.context(), claim))
	claim.Status.Phase = corev1.ClaimBound
	require.NoError(w.t, w.Client.Status().Update(w.context(), claim))
}

// claimed reports whether a claim is bound.
func (w *World) claimed(name string) bool {
	var claim corev1.PersistentVolumeClaim
	return w.has(&claim, name) && claim.Status.Phase == corev1.ClaimBound
}

// nodeOfClaim is the node that a pod's claim is bound to, or else where the pod is already.
func (w *World) nodeOfClaim(pod *corev1.Pod) string {
	for _, volume := range pod.Spec.Volumes {
		var claim corev1.PersistentVolumeClaim
		if volume.PersistentVolumeClaim == nil || !w.has(&claim, volume.PersistentVolumeClaim.ClaimName) {
			continue
		}
		var bound corev1.PersistentVolume
		if claim.Spec.VolumeName != "" {
			require.NoError(w.t, w.Client.Get(w.context(), client.ObjectKey{Name: claim.Spec.VolumeName}, &bound))
		}
		if bound.Spec.NodeAffinity != nil {
			return bound.Spec.NodeAffinity.Required.NodeSelectorTerms[0].MatchExpressions[0].Values[0]
		}
		var live corev1.Pod
		if w.has(&live, pod.Name) {
			return live.Spec.NodeName
		}
	}
	return ""
}

// releaseClaims lets go of claims that were deleted and that no pod uses, and sees that none
// was deleted by the operator while Ceph knows the OSD on it.
func (w *World) releaseClaims() {
	for _, claim := range w.claims() {
		if claim.DeletionTimestamp == nil {
			continue
		}
		at := claimed + "/" + claim.Name
		if d := w.disks[at]; d != nil && d.uuid != "" && w.knows(d.uuid) && !w.deletes[claim.Name] {
			w.violated("claim %s was deleted while Ceph knows osd.%d on it", claim.Name, d.id)
		}
		if w.consumed(claim.Name) {
			continue
		}
		if d := w.disks[at]; d != nil && d.uuid != "" && w.Ceph != nil {
			w.Ceph.Down(d.id)
		}
		delete(w.disks, at)
		claim.Finalizers = nil
		require.NoError(w.t, client.IgnoreNotFound(w.Client.Update(w.context(), &claim)))
	}
}

func (w *World) knows(uuid string) bool {
	if w.Ceph == nil || !w.hasQuorum() {
		return false
	}
	conn, err := w.Ceph.Connect(w.context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(w.t, err)
	osds, err := conn.OSDs(w.context())
	require.NoError(w.t, err)
	return slices.ContainsFunc(osds, func(o ceph.OSD) bool { return o.UUID == uuid })
}

// DeleteClaim has a person delete a claim under its OSD.
func (w *World) DeleteClaim(name string) {
	w.deletes[name] = true
	require.NoError(w.t, w.Client.Delete(w.context(), &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}))
}

// hostIn is the host of the CRUSH map where an OSD's pod starts.
func hostIn(pod *corev1.Pod, secret *corev1.Secret) string {
	_, host, found := strings.Cut(string(secret.Data["location"]), "host=")
	if !found {
		return pod.Spec.NodeName
	}
	return host
}

// reportDisk is what the agent of a disk's node says of it; no agent looks at claims.
func (w *World) reportDisk(d *disk) {
	if d.claim == "" {
		w.report(d.node)
	}
}
