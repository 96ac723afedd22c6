package v1alpha1_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cairn-storage/cairn/tests/controlplane"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

// resource reads YAML as a person would write it, without Go's types: those
// would leave out zero values before the server could refuse them.
func resource(t *testing.T, kind, text string) *unstructured.Unstructured {
	t.Helper()
	u := &unstructured.Unstructured{}
	require.NoError(t, yaml.Unmarshal([]byte(text), &u.Object), text)
	u.SetAPIVersion("cairn.storage/v1alpha1")
	u.SetKind(kind)
	u.SetNamespace("default")
	if u.GetName() == "" {
		u.SetName("main")
	}
	return u
}

// offer asks the server whether it would take a resource, and makes nothing.
func offer(t *testing.T, kind, text string) (*unstructured.Unstructured, error) {
	t.Helper()
	_, c := controlplane.Start(t)
	u := resource(t, kind, text)
	return u, c.Create(t.Context(), u, client.DryRunAll)
}
