// Package v1alpha1 is Cairn's API: cairn.storage/v1alpha1.
//
// +kubebuilder:object:generate=true
// +groupName=cairn.storage
package v1alpha1

import (
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
)

// GroupVersion is the group and version of every kind in this package.
var GroupVersion = schema.GroupVersion{Group: "cairn.storage", Version: "v1alpha1"}

// AddToScheme registers the kinds.
func AddToScheme(scheme *runtime.Scheme) error {
	scheme.AddKnownTypes(GroupVersion,
		&StorageCluster{}, &StorageClusterList{},
		&BlockPool{}, &BlockPoolList{},
		&NodeStorage{}, &NodeStorageList{},
	)
	metav1.AddToGroupVersion(scheme, GroupVersion)
	return nil
}
