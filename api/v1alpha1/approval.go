package v1alpha1

import (
	"fmt"
	"slices"
	"strings"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// Risk is what a step does to what is there, from the least to the worst.
type Risk string

// The risks of steps.
const (
	// RiskNone: nothing that serves data changes.
	RiskNone Risk = "None"
	// RiskRestart: a daemon restarts, while others serve what it served.
	RiskRestart Risk = "Restart"
	// RiskMovesData: Ceph moves data between OSDs, every replica kept.
	RiskMovesData Risk = "MovesData"
	// RiskReducesRedundancy: less may fail afterwards than before.
	RiskReducesRedundancy Risk = "ReducesRedundancy"
	// RiskDestroys: something goes that cannot be brought back.
	RiskDestroys Risk = "Destroys"
)

// Held reports whether spec.approval Manual holds steps of this risk.
func (r Risk) Held() bool {
	return r == RiskMovesData || r == RiskReducesRedundancy || r == RiskDestroys
}

// What spec.approval may be.
const (
	ApprovalAutomatic = "Automatic"
	ApprovalManual    = "Manual"
)

// AnnotationApproved of a StorageCluster or BlockPool names the steps that are approved, after the
// generation of the spec that they follow from: "7: osd-3-drain osd-3-purge". So an edit of the
// spec ends every approval.
const AnnotationApproved = "cairn.storage/approved"

// Approved reports whether a step of a resource is approved for the spec as it is.
func Approved(object metav1.Object, step string) bool {
	return slices.Contains(approvals(object), step)
}

// Approve adds steps to those that are approved.
func Approve(object metav1.Object, steps ...string) {
	all := approvals(object)
	for _, step := range steps {
		if !slices.Contains(all, step) {
			all = append(all, step)
		}
	}
	annotations := object.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationApproved] = fmt.Sprintf("%d: %s", object.GetGeneration(), strings.Join(all, " "))
	object.SetAnnotations(annotations)
}

// approvals are the steps that are approved for the spec as it is.
func approvals(object metav1.Object) []string {
	generation, steps, _ := strings.Cut(object.GetAnnotations()[AnnotationApproved], ":")
	if generation != fmt.Sprint(object.GetGeneration()) {
		return nil
	}
	return strings.Fields(steps)
}
