package upgrade

import (
	"fmt"
	"hash/fnv"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
	"github.com/cairn-storage/cairn/operator/kube"
)

// Shipped is the image that this release of Cairn comes with, the API's default,
// and ShippedVersion the Ceph in it.
const (
	Shipped        = "cairn.storage/ceph:20.2.4"
	ShippedVersion = "20.2.4"
)

// Component is the label of the pod that asks an image which version it is.
const Component = "version"

// PodName of the pod that asks the cluster's image.
func PodName(cluster *v1alpha1.StorageCluster) string {
	hash := fnv.New32a()
	_, _ = hash.Write([]byte(strings.Join(append([]string{cluster.Spec.Ceph.Image}, optionNames(cluster)...), " ")))
	return fmt.Sprintf("%s-ceph-version-%08x", cluster.Name, hash.Sum32())
}

// script says the version, and which of the options that it is given are unknown.
const script = `knows() { ceph-conf --show-config-value "$1" >/dev/null 2>&1; }
{ ceph-mon --version
if knows fsid; then for name; do knows "$name" || echo "` + unknown + `$name"; done; fi; } >/dev/termination-log`

const unknown = "unknown option: "

// optionNames are the Ceph options of the spec, but those of the mgr's modules, which
// no program knows by itself.
func optionNames(cluster *v1alpha1.StorageCluster) (names []string) {
	for _, section := range cluster.Spec.Ceph.Config {
		for name := range section {
			if !option.OfMgrModule(name) {
				names = append(names, name)
			}
		}
	}
	slices.Sort(names)
	return slices.Compact(names)
}

// Unknown are the options of the spec that the image said it does not know.
func Unknown(said string) (names []string) {
	for line := range strings.Lines(said) {
		if name, ok := strings.CutPrefix(line, unknown); ok {
			names = append(names, strings.TrimSpace(name))
		}
	}
	return names
}

// Pod asks the cluster's image which version of Ceph it is, where mons and mgrs
// may run and as they are pulled. It serves nothing: when it cannot start, no
// daemon has been touched.
func Pod(cluster *v1alpha1.StorageCluster) *corev1.Pod {
	return &corev1.Pod{
		ObjectMeta: kube.Meta(cluster, PodName(cluster), Component, ""),
		Spec: corev1.PodSpec{
			RestartPolicy:                 corev1.RestartPolicyOnFailure,
			AutomountServiceAccountToken:  ptr.To(false),
			EnableServiceLinks:            ptr.To(false),
			TerminationGracePeriodSeconds: ptr.To[int64](1),
			NodeSelector:                  cluster.Spec.Placement.NodeSelector,
			Tolerations:                   cluster.Spec.Placement.Tolerations,
			PriorityClassName:             "system-cluster-critical",
			Containers: []corev1.Container{{
				Name: Component, Image: cluster.Spec.Ceph.Image, ImagePullPolicy: cluster.Spec.Ceph.ImagePullPolicy,
				Command:                  append([]string{"sh", "-ec", script, "sh"}, optionNames(cluster)...),
				TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
				SecurityContext: &corev1.SecurityContext{
					RunAsUser:                ptr.To[int64](0),
					AllowPrivilegeEscalation: ptr.To(false),
					Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
					SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
				},
			}},
		},
	}
}

// Answer is what the image said in the pod; false while it has said nothing.
func Answer(pod *corev1.Pod) (said string, done bool) {
	if pod == nil || pod.Status.Phase != corev1.PodSucceeded {
		return "", false
	}
	for _, container := range pod.Status.ContainerStatuses {
		if end := container.State.Terminated; end != nil {
			return strings.TrimSpace(end.Message), true
		}
	}
	return "", true
}
