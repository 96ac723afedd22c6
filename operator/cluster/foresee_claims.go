package cluster

import (
	"fmt"
	"maps"
	"strings"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/operator/osd"
)

// makeClaim has a claim be there, and be bound: to a volume of all nodes, or of one that is
// guessed where the spec says that it is bound to one.
func (w *imagined) makeClaim(made *corev1.PersistentVolumeClaim) {
	claim := made.DeepCopy()
	claim.UID, claim.Spec.VolumeName = types.UID("foreseen-"+claim.Name), "foreseen-"+claim.Name
	claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, claim.Spec.Resources.Requests
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: claim.Spec.VolumeName}}
	for _, want := range osd.WantedClaims(w.Cluster) {
		if want.Name == claim.Name && !want.Set.Portable && len(w.Nodes) > 0 {
			node := w.Nodes[len(w.Volumes)%len(w.Nodes)]
			volume.Spec.NodeAffinity = &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{NodeSelectorTerms: []corev1.NodeSelectorTerm{{
				MatchFields: []corev1.NodeSelectorRequirement{{Key: metav1.ObjectNameField, Operator: corev1.NodeSelectorOpIn, Values: []string{node.Name}}}}}}}
			w.assumes = append(w.assumes, fmt.Sprintf("that claim %s is bound to a volume of node %s", claim.Name, node.Name))
		}
	}
	w.Claims[claim.Name], w.Volumes[volume.Name] = claim, volume
}

// growClaim has a claim be as large as it is asked to be.
func (w *imagined) growClaim(asked *corev1.PersistentVolumeClaim) {
	claim := w.Claims[asked.Name].DeepCopy()
	claim.Spec.Resources.Requests = maps.Clone(asked.Spec.Resources.Requests)
	claim.Status.Capacity = claim.Spec.Resources.Requests
	w.Claims[claim.Name] = claim
}

// locationOf the OSD of a target in the CRUSH map; empty where that is not known.
func (w *imagined) locationOf(t osd.Target) string {
	if t.Claim != "" {
		return t.Location
	}
	if node := w.node(t.Node); node != nil {
		return osd.Location(node)
	}
	return ""
}

// hostOf a location.
func hostOf(location string) string {
	_, host, _ := strings.Cut(location, "host=")
	return host
}
