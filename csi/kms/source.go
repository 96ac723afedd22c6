package kms

import (
	"context"
	"strings"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/cairn-storage/cairn/csi/fault"
)

// ObjectName is the name of the ConfigMap that has the configurations, by their
// IDs, and of the Secret that has their tokens.
const ObjectName = "cairn-kms"

// tokenKey is where the Secret has the token of a KMS.
func tokenKey(id string) string { return id + ".token" }

// Source has the configurations of KMS.
type Source interface {
	Config(ctx context.Context, id string) (Config, error)
}

// Kubernetes is a source in the driver's own namespace.
type Kubernetes struct {
	ConfigMaps typedcorev1.ConfigMapInterface
	Secrets    typedcorev1.SecretInterface
}

// Config reads a configuration.
func (k Kubernetes) Config(ctx context.Context, id string) (Config, error) {
	if err := CheckID(id); err != nil {
		return Config{}, fault.Errorf(fault.Refused, "%q %w", id, err)
	}
	configs, err := k.ConfigMaps.Get(ctx, ObjectName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return Config{}, fault.Errorf(fault.Refused, "KMS %q is not configured: there is no ConfigMap %s", id, ObjectName)
	}
	if err != nil {
		return Config{}, fault.Errorf(fault.Unavailable, "read ConfigMap %s: %w", ObjectName, err)
	}
	text, ok := configs.Data[id]
	if !ok {
		return Config{}, fault.Errorf(fault.Refused, "KMS %q is not configured: ConfigMap %s has no such key", id, ObjectName)
	}
	token, err := k.token(ctx, id)
	if err != nil {
		return Config{}, err
	}
	return parseConfig(id, text, token)
}

func (k Kubernetes) token(ctx context.Context, id string) (string, error) {
	tokens, err := k.Secrets.Get(ctx, ObjectName, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return "", nil
	}
	if err != nil {
		return "", fault.Errorf(fault.Unavailable, "read Secret %s: %w", ObjectName, err)
	}
	return strings.TrimSpace(string(tokens.Data[tokenKey(id)])), nil
}
