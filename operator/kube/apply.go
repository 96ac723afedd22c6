package kube

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"encoding/json"
	"fmt"
	"slices"

	"k8s.io/apimachinery/pkg/api/equality"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/utils/lru"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/apiutil"
)

// Differs reports whether applying want would change live. It compares all that
// want sets with what live has, and the hash of what was last applied, which
// shows fields that want no longer sets. A converged cluster is not written to.
func Differs(live, want client.Object) (bool, error) {
	if live == nil {
		return true, nil
	}
	hash, err := Hash(want)
	if err != nil {
		return false, err
	}
	if live.GetAnnotations()[AnnotationApplied] != hash {
		return true, nil
	}
	seen := comparison{live.GetResourceVersion(), hash}
	if before, ok := covered.Get(live.GetUID()); ok && before == seen && seen.version != "" {
		return false, nil
	}
	wanted, err := plain(want)
	if err != nil {
		return false, err
	}
	found, err := plain(live)
	if err != nil {
		return false, err
	}
	if !covers(found, wanted) {
		return true, nil
	}
	covered.Add(live.GetUID(), seen)
	return false, nil
}

// comparison is of an object as it was with what was wanted of it.
type comparison struct{ version, hash string }

// covered remembers, by UID, the objects that were as wanted: most of them are
// the same at the next look, and comparing them anew is most of a look's work.
var covered = lru.New(1 << 14)

// covers reports whether found has all that wanted sets.
func covers(found, wanted any) bool {
	switch want := wanted.(type) {
	case map[string]any:
		have, ok := found.(map[string]any)
		if !ok {
			return len(want) == 0
		}
		for key, value := range want {
			if identity, ok := identities[key]; ok && !coversItems(have[key], value, identity) || !ok && !covers(have[key], value) {
				return false
			}
		}
		return true
	case []any:
		have, ok := found.([]any)
		if !ok || len(have) != len(want) {
			return len(want) == 0 && !ok
		}
		for i := range want {
			if !covers(have[i], want[i]) {
				return false
			}
		}
		return true
	case nil:
		return true
	}
	return equality.Semantic.DeepEqual(found, wanted) || sameQuantity(found, wanted)
}

// identities are the lists whose items server-side apply tells apart by a
// field: items that others added are theirs, and stay.
var identities = map[string]string{
	"containers": "name", "initContainers": "name", "volumes": "name", "env": "name",
	"ports": "name", "volumeMounts": "mountPath", "ownerReferences": "uid",
}

func coversItems(found, wanted any, identity string) bool {
	items, ok := wanted.([]any)
	if !ok {
		return covers(found, wanted)
	}
	have, _ := found.([]any)
	for _, item := range items {
		if !slices.ContainsFunc(have, func(other any) bool { return field(other, identity) == field(item, identity) && covers(other, item) }) {
			return false
		}
	}
	return true
}

func field(item any, name string) any {
	fields, _ := item.(map[string]any)
	return fields[name]
}

// Hash of an object that is to be applied.
func Hash(want client.Object) (string, error) {
	text, err := json.Marshal(want)
	if err != nil {
		return "", fmt.Errorf("encode %s: %w", want.GetName(), err)
	}
	sum := sha256.Sum256(text)
	return hex.EncodeToString(sum[:8]), nil
}

// plain is an object without its status and what the server alone sets.
func plain(object client.Object) (map[string]any, error) {
	// A copy: the content of an unstructured object would be its own otherwise.
	object, _ = object.DeepCopyObject().(client.Object)
	object.SetManagedFields(nil) // much to convert, and never wanted
	content, err := runtime.DefaultUnstructuredConverter.ToUnstructured(object)
	if err != nil {
		return nil, fmt.Errorf("convert %s: %w", object.GetName(), err)
	}
	delete(content, "status")
	delete(content, "apiVersion")
	delete(content, "kind")
	unstructured.RemoveNestedField(content, "metadata", "creationTimestamp")
	unstructured.RemoveNestedField(content, "metadata", "annotations", AnnotationApplied)
	unstructured.RemoveNestedField(content, "spec", "template", "metadata", "creationTimestamp")
	return content, nil
}

// Apply writes want with server-side apply as the one manager of its fields.
// The answer of the server is written back into want.
func Apply(ctx context.Context, c client.Client, want client.Object) error {
	return ApplyOver(ctx, c, nil, want)
}

// ApplyOver is Apply that is refused when the object is no longer as it was seen; nil is as
// it may be.
func ApplyOver(ctx context.Context, c client.Client, seen, want client.Object) error {
	hash, err := Hash(want)
	if err != nil {
		return err
	}
	content, err := plain(want)
	if err != nil {
		return err
	}
	gvk, err := apiutil.GVKForObject(want, c.Scheme())
	if err != nil {
		return fmt.Errorf("apply %s: %w", want.GetName(), err)
	}
	u := &unstructured.Unstructured{Object: content}
	u.SetGroupVersionKind(gvk)
	annotations := u.GetAnnotations()
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[AnnotationApplied] = hash
	u.SetAnnotations(annotations)
	if seen != nil {
		u.SetResourceVersion(seen.GetResourceVersion())
	}
	if err := c.Apply(ctx, client.ApplyConfigurationFromUnstructured(u), client.FieldOwner(Manager), client.ForceOwnership); err != nil {
		return fmt.Errorf("apply %s %s: %w", gvk.Kind, want.GetName(), err)
	}
	return nil
}
