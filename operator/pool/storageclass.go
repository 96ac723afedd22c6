package pool

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
)

const (
	labelPool         = "cairn.storage/pool"
	defaultAnnotation = "storageclass.kubernetes.io/is-default-class"
)

// storageClassName of a pool; empty when it has none.
func storageClassName(pool *v1alpha1.BlockPool) string {
	switch {
	case pool.Spec.StorageClass == nil:
		return ""
	case pool.Spec.StorageClass.Name == "":
		return pool.Name
	}
	return pool.Spec.StorageClass.Name
}

// storageClass of a pool, or why it cannot be made.
func storageClass(o *Observed) (*storagev1.StorageClass, error) {
	name := storageClassName(o.Pool)
	labels := map[string]string{kube.LabelManagedBy: kube.Manager, labelPool: o.Pool.Namespace + "." + o.Pool.Name}
	if o.StorageClass != nil && o.StorageClass.Labels[labelPool] != labels[labelPool] {
		return nil, &stop{v1alpha1.ReasonNameTaken, fmt.Sprintf("spec.storageClass.name: a StorageClass %q that this pool did not make exists. Choose another name, or delete that one", name), lookAgain}
	}
	want := o.Pool.Spec.StorageClass
	parameters := map[string]string{"clusterID": o.Cred.FSID, "pool": o.Pool.Name, "csi.storage.k8s.io/fstype": want.FSType}
	maps.Copy(parameters, want.Parameters)
	if len(want.Topology) > 0 {
		parameters["topology"] = topologyParameter(want.Topology)
	}
	return &storagev1.StorageClass{
		ObjectMeta: metav1.ObjectMeta{
			Name: name, Labels: labels,
			Annotations: map[string]string{defaultAnnotation: fmt.Sprint(want.Default)},
		},
		Provisioner:          csidriver.BlockDriver,
		Parameters:           parameters,
		ReclaimPolicy:        ptr.To[corev1.PersistentVolumeReclaimPolicy](want.ReclaimPolicy),
		MountOptions:         want.MountOptions,
		AllowVolumeExpansion: ptr.To(true),
		VolumeBindingMode:    ptr.To(bindingMode(want)),
		AllowedTopologies:    allowedTopologies(want.Topology),
	}, nil
}

func bindingMode(want *v1alpha1.StorageClassSpec) storagev1.VolumeBindingMode {
	switch {
	case want.VolumeBindingMode != "":
		return want.VolumeBindingMode
	case len(want.Topology) > 0:
		return storagev1.VolumeBindingWaitForFirstConsumer
	}
	return storagev1.VolumeBindingImmediate
}

func topologyParameter(topology map[string]v1alpha1.Domain) string {
	var parts []string
	for _, key := range slices.Sorted(maps.Keys(topology)) {
		parts = append(parts, key+"="+string(topology[key]))
	}
	return strings.Join(parts, ",")
}

// allowedTopologies tell the scheduler what the driver is told by its parameter.
func allowedTopologies(topology map[string]v1alpha1.Domain) []corev1.TopologySelectorTerm {
	if len(topology) == 0 {
		return nil
	}
	var term corev1.TopologySelectorTerm
	for _, key := range slices.Sorted(maps.Keys(topology)) {
		term.MatchLabelExpressions = append(term.MatchLabelExpressions, corev1.TopologySelectorLabelRequirement{
			Key: csidriver.TopologyPrefix + key, Values: []string{string(topology[key])}})
	}
	return []corev1.TopologySelectorTerm{term}
}

// frozenPartsDiffer compares what Kubernetes does not let anyone change.
func frozenPartsDiffer(live, want *storagev1.StorageClass) bool {
	return live.Provisioner != want.Provisioner || !maps.Equal(live.Parameters, want.Parameters) ||
		!equality.Semantic.DeepEqual(live.ReclaimPolicy, want.ReclaimPolicy) ||
		!equality.Semantic.DeepEqual(live.VolumeBindingMode, want.VolumeBindingMode) ||
		!equality.Semantic.DeepEqual(live.AllowedTopologies, want.AllowedTopologies)
}
