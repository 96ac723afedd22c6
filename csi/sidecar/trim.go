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

// trim drops what nobody here reads from cached objects, and lets volumes, claims
// and attachments share the sizes, attributes and annotations that most of them have
// alike: a map of one entry takes more than half a kilobyte. Nobody changes those
// in a cache: whoever changes an object copies it first.
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
		o.Annotations, o.Labels = attributes(o.Annotations), attributes(o.Labels)
		o.Spec.Attacher, o.Spec.NodeName = text(o.Spec.Attacher), text(o.Spec.NodeName)
	}
	return obj, nil
}

func trimVolume(o *corev1.PersistentVolume) {
	o.Annotations, o.Labels = attributes(o.Annotations), attributes(o.Labels)
	o.Spec.Capacity = resources(o.Spec.Capacity)
	o.Spec.StorageClassName = text(o.Spec.StorageClassName)
	o.Spec.AccessModes = texts(o.Spec.AccessModes)
	o.Spec.VolumeMode = pointer(o.Spec.VolumeMode)
	if source := o.Spec.CSI; source != nil {
		source.Driver, source.FSType = text(source.Driver), text(source.FSType)
		source.VolumeAttributes = attributes(source.VolumeAttributes)
	}
	if claim := o.Spec.ClaimRef; claim != nil {
		claim.Kind, claim.APIVersion, claim.Namespace = text(claim.Kind), text(claim.APIVersion), text(claim.Namespace)
	}
}

func trimClaim(o *corev1.PersistentVolumeClaim) {
	o.Annotations, o.Labels = attributes(o.Annotations), attributes(o.Labels)
	o.Spec.Resources.Requests = resources(o.Spec.Resources.Requests)
	o.Status.Capacity = resources(o.Status.Capacity)
	o.Status.AllocatedResources = resources(o.Status.AllocatedResources)
	o.Spec.AccessModes, o.Status.AccessModes = texts(o.Spec.AccessModes), texts(o.Status.AccessModes)
	o.Spec.StorageClassName, o.Spec.VolumeMode = pointer(o.Spec.StorageClassName), pointer(o.Spec.VolumeMode)
}

// text returns the one copy of a string that many have.
func text[T ~string](s T) T { return unique.Make(s).Value() }

func pointer[T ~string](p *T) *T {
	if p == nil {
		return nil
	}
	one := text(*p)
	return keep(string(one), &one)
}

func texts[T ~string](list []T) []T {
	if len(list) == 0 {
		return nil
	}
	var key strings.Builder
	for i := range list {
		list[i] = text(list[i])
		fmt.Fprintf(&key, "%q,", list[i])
	}
	return keep(key.String(), slices.Clip(list))
}

func attributes(m map[string]string) map[string]string {
	if len(m) == 0 {
		return nil
	}
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		fmt.Fprintf(&key, "%q=%q,", k, m[k])
	}
	return keep(key.String(), m)
}

func resources(m corev1.ResourceList) corev1.ResourceList {
	if len(m) == 0 {
		return nil
	}
	var key strings.Builder
	for _, k := range slices.Sorted(maps.Keys(m)) {
		size := m[k]
		fmt.Fprintf(&key, "%q=%s,", k, size.String())
	}
	return keep(key.String(), m)
}

// shared holds, under what they say, one of each value that objects have alike.
var shared struct {
	mu   sync.Mutex
	held map[any]any
}

// most values that are held; beyond them it starts anew, and what objects have stays.
const most = 4096

// saying is the key of a value of type V.
type saying[V any] struct{ text string }

// keep returns the value of its type that is held for a text: v, if there was none.
func keep[V any](text string, v V) V {
	shared.mu.Lock()
	defer shared.mu.Unlock()
	if one, ok := shared.held[saying[V]{text}]; ok {
		return one.(V)
	}
	if shared.held == nil || len(shared.held) >= most {
		shared.held = map[any]any{}
	}
	shared.held[saying[V]{text}] = v
	return v
}
