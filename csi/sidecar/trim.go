package sidecar

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"unique"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// trim drops what nobody here reads from cached objects, and lets volumes and
// claims share the sizes and attributes that most of them have alike: a map of
// one entry takes more than half a kilobyte. Nobody changes those in a cache.
func trim(obj any) (any, error) {
	if o, ok := obj.(metav1.Object); ok {
		o.SetManagedFields(nil)
		o.SetNamespace(text(o.GetNamespace()))
		o.SetFinalizers(texts(o.GetFinalizers()))
	}
	switch o := obj.(type) {
	case *corev1.Node:
		o.Status, o.Annotations = corev1.NodeStatus{}, nil
	case *corev1.PersistentVolume:
		trimVolume(o)
	case *corev1.PersistentVolumeClaim:
		trimClaim(o)
	case *storagev1.VolumeAttachment:
		o.Spec.Attacher, o.Spec.NodeName = text(o.Spec.Attacher), text(o.Spec.NodeName)
	}
	return obj, nil
}

func trimVolume(o *corev1.PersistentVolume) {
	o.Spec.Capacity = shared.resources(o.Spec.Capacity)
	o.Spec.StorageClassName = text(o.Spec.StorageClassName)
	o.Spec.AccessModes = texts(o.Spec.AccessModes)
	if source := o.Spec.CSI; source != nil {
		source.Driver, source.FSType = text(source.Driver), text(source.FSType)
		source.VolumeAttributes = shared.attributes(source.VolumeAttributes)
	}
	if claim := o.Spec.ClaimRef; claim != nil {
		claim.Kind, claim.APIVersion, claim.Namespace = text(claim.Kind), text(claim.APIVersion), text(claim.Namespace)
	}
}

func trimClaim(o *corev1.PersistentVolumeClaim) {
	o.Spec.Resources.Requests = shared.resources(o.Spec.Resources.Requests)
	o.Status.Capacity = shared.resources(o.Status.Capacity)
	o.Status.AllocatedResources = shared.resources(o.Status.AllocatedResources)
	o.Spec.AccessModes, o.Status.AccessModes = texts(o.Spec.AccessModes), texts(o.Status.AccessModes)
	if class := o.Spec.StorageClassName; class != nil {
		*class = text(*class)
	}
}

// text returns the one copy of a string that many have.
func text[T ~string](s T) T { return unique.Make(s).Value() }

func texts[T ~string](list []T) []T {
	for i := range list {
		list[i] = text(list[i])
	}
	return slices.Clip(list)
}

// shared holds one of each map that objects have alike.
var shared alike

// most maps that are held; beyond them it starts anew, and what objects have stays.
const most = 4096

type alike struct {
	mu    sync.Mutex
	texts map[string]map[string]string
	sizes map[string]corev1.ResourceList
}

func (a *alike) attributes(m map[string]string) map[string]string {
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&key, "%q=%q,", k, m[k])
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return keep(&a.texts, key.String(), m)
}

func (a *alike) resources(m corev1.ResourceList) corev1.ResourceList {
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		size := m[k]
		fmt.Fprintf(&key, "%q=%s,", k, size.String())
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return keep(&a.sizes, key.String(), m)
}

// keep returns the map that is held under a key: m, if there was none.
func keep[M ~map[K]V, K comparable, V any](held *map[string]M, key string, m M) M {
	if len(m) == 0 {
		return nil
	}
	if one, ok := (*held)[key]; ok {
		return one
	}
	if *held == nil || len(*held) >= most {
		*held = map[string]M{}
	}
	(*held)[key] = m
	return m
}
