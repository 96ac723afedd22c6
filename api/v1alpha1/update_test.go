package v1alpha1_test

import (
	"context"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/assert"
	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cairn-storage/cairn/tests/controlplane"
)

const clusterSpec = `{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1}]}]}}}`

const clusterWithKeys = `{spec: {security: {cephx: {daemons: {keyGeneration: 3}, csi: {keyGeneration: 2}}}, storage: {nodes: [{name: n1, devices: [{name: disk1}]}]}}}`
const onClaims = `{spec: {storage: {claims: [{name: fast, count: 2, size: 10Gi, portable: true}]}}}`

func TestWhatCannotBeChangedIsRefusedWithTheReason(t *testing.T) {
	for name, test := range map[string]struct{ kind, before, patch, says string }{
		"the network": {"StorageCluster", clusterSpec, `{spec: {network: {provider: host}}}`,
			"spec.network.provider: cannot be changed, because every daemon's address would change at once"},
		"the data path": {"StorageCluster", clusterSpec, `{spec: {dataPath: /data}}`,
			"spec.dataPath: cannot be changed, because the mons' stores lie there"},
		"the generation of the daemons' keys, to a lower one": {"StorageCluster", clusterWithKeys, `{spec: {security: {cephx: {daemons: {keyGeneration: 1}}}}}`,
			"keyGeneration: cannot be lowered"},
		"the generation of the CSI driver's keys, by leaving it out": {"StorageCluster", clusterWithKeys, `{spec: {security: null}}`,
			"keyGeneration: cannot be lowered"},
		"whether claims may move": {"StorageCluster", onClaims, `{spec: {storage: {claims: [{name: fast, count: 2, size: 10Gi, portable: false}]}}}`,
			"spec.storage.claims.portable: cannot be changed"},
		"the StorageClass of claims": {"StorageCluster", onClaims, `{spec: {storage: {claims: [{name: fast, count: 2, size: 10Gi, portable: true, storageClassName: other}]}}}`,
			"spec.storage.claims.storageClassName: cannot be changed"},
		"claims that shrink": {"StorageCluster", onClaims, `{spec: {storage: {claims: [{name: fast, count: 2, size: 9Gi, portable: true}]}}}`,
			"spec.storage.claims.size: may grow only"},
		"a pool's cluster": {"BlockPool", `{spec: {cluster: main}}`, `{spec: {cluster: other}}`,
			"spec.cluster: cannot be changed"},
		"a StorageClass's name": {"BlockPool", `{spec: {cluster: main, storageClass: {name: fast}}}`, `{spec: {storageClass: {name: slow}}}`,
			"spec.storageClass.name: cannot be changed"},
		"a StorageClass's name that was the pool's own": {"BlockPool", `{spec: {cluster: main, storageClass: {}}}`, `{spec: {storageClass: {name: slow}}}`,
			"spec.storageClass.name: cannot be changed"},
		"a StorageClass's name, by leaving it out": {"BlockPool", `{spec: {cluster: main, storageClass: {name: fast}}}`, `{spec: {storageClass: {name: null}}}`,
			"spec.storageClass.name: cannot be changed"},
	} {
		t.Run(name, func(t *testing.T) {
			require.ErrorContains(t, change(t, test.kind, test.before, test.patch), test.says)
		})
	}
}

func TestWhatMayBeChangedIsTaken(t *testing.T) {
	for name, test := range map[string]struct{ kind, before, patch string }{
		"a device is added":            {"StorageCluster", clusterSpec, `{spec: {storage: {nodes: [{name: n1, devices: [{name: disk1}, {name: disk2}]}]}}}`},
		"the keys are made anew":       {"StorageCluster", clusterSpec, `{spec: {security: {cephx: {daemons: {keyGeneration: 2}, csi: {keyGeneration: 7}}}}}`},
		"claims are more and larger":   {"StorageCluster", onClaims, `{spec: {storage: {claims: [{name: fast, count: 3, size: 20Gi, portable: true}]}}}`},
		"claims are fewer":             {"StorageCluster", onClaims, `{spec: {storage: {claims: [{name: fast, count: 0, size: 10Gi, portable: true, skip: [1]}]}}}`},
		"a mon count shrinks":          {"StorageCluster", clusterSpec, `{spec: {mon: {count: 1}}}`},
		"a mon count grows":            {"StorageCluster", `{spec: {mon: {count: 1}, storage: {nodeSelector: {}, filter: {rotational: true}}}}`, `{spec: {mon: {count: 3}}}`},
		"the image is another":         {"StorageCluster", clusterSpec, `{spec: {ceph: {image: "cairn.storage/ceph:20.2.5"}}}`},
		"encryption begins":            {"StorageCluster", clusterSpec, `{spec: {network: {encryption: true}}}`},
		"encryption ends":              {"StorageCluster", `{spec: {network: {encryption: true}, storage: {nodeSelector: {}, filter: {rotational: true}}}}`, `{spec: {network: {encryption: false, compression: true}}}`},
		"a quota is set":               {"BlockPool", `{spec: {cluster: main}}`, `{spec: {quota: 5Gi}}`},
		"a StorageClass is asked for":  {"BlockPool", `{spec: {cluster: main}}`, `{spec: {storageClass: {}}}`},
		"a StorageClass's filesystem":  {"BlockPool", `{spec: {cluster: main, storageClass: {name: fast}}}`, `{spec: {storageClass: {fsType: xfs}}}`},
		"a StorageClass as it already": {"BlockPool", `{spec: {cluster: main, storageClass: {name: fast}}}`, `{spec: {storageClass: {name: fast}}}`},
	} {
		t.Run(name, func(t *testing.T) { require.NoError(t, change(t, test.kind, test.before, test.patch)) })
	}
}

// change makes a resource and returns what the server says to a patch of it.
func change(t *testing.T, kind, before, patch string) error {
	t.Helper()
	_, c := controlplane.Start(t)
	u := resource(t, kind, before)
	u.SetName("")
	u.SetGenerateName("change-")
	require.NoError(t, c.Create(t.Context(), u))
	text, err := yaml.YAMLToJSON([]byte(patch))
	require.NoError(t, err)
	return c.Patch(t.Context(), u, client.RawPatch(types.MergePatchType, text))
}

func TestDefaultsAreInTheSchema(t *testing.T) {
	for name, test := range map[string]struct {
		kind, spec string
		path       []string
		want       any
	}{
		"the image of Ceph":         {"StorageCluster", clusterSpec, []string{"ceph", "image"}, "cairn.storage/ceph:20.2.4"},
		"the pull policy":           {"StorageCluster", clusterSpec, []string{"ceph", "imagePullPolicy"}, "IfNotPresent"},
		"three mons":                {"StorageCluster", clusterSpec, []string{"mon", "count"}, int64(3)},
		"two mgrs":                  {"StorageCluster", clusterSpec, []string{"mgr", "count"}, int64(2)},
		"the pods' network":         {"StorageCluster", clusterSpec, []string{"network", "provider"}, "pod"},
		"where the mons' stores go": {"StorageCluster", clusterSpec, []string{"dataPath"}, "/var/lib/cairn"},
		"data is kept":              {"StorageCluster", clusterSpec, []string{"deletion", "policy"}, "Retain"},
		"on three hosts":            {"BlockPool", `{spec: {cluster: main}}`, []string{"failureDomain"}, "host"},
		"volumes go with claims":    {"BlockPool", `{spec: {cluster: main, storageClass: {}}}`, []string{"storageClass", "reclaimPolicy"}, "Delete"},
		"volumes are ext4":          {"BlockPool", `{spec: {cluster: main, storageClass: {}}}`, []string{"storageClass", "fsType"}, "ext4"},
	} {
		t.Run(name, func(t *testing.T) {
			taken, err := offer(t, test.kind, test.spec)
			require.NoError(t, err)
			value, found, err := unstructured.NestedFieldNoCopy(taken.Object, append([]string{"spec"}, test.path...)...)
			require.NoError(t, err)
			require.True(t, found, "spec.%v has no default", test.path)
			require.Equal(t, test.want, value)
		})
	}
	t.Run("no StorageClass is made that nobody asked for", func(t *testing.T) {
		taken, err := offer(t, "BlockPool", `{spec: {cluster: main}}`)
		require.NoError(t, err)
		_, found, err := unstructured.NestedFieldNoCopy(taken.Object, "spec", "storageClass")
		require.NoError(t, err)
		require.False(t, found)
	})
}

// Strict validation refuses fields that the schema does not know, as kubectl does.
func TestEveryExampleAppliesAsItIs(t *testing.T) {
	_, c := controlplane.Start(t)
	for _, object := range documents(t, controlplane.Path("deploy/snapshots.yaml")) {
		if object.GetKind() == "CustomResourceDefinition" {
			require.NoError(t, c.Create(t.Context(), object))
		}
	}
	examples, err := filepath.Glob(controlplane.Path("deploy/examples/*.yaml"))
	require.NoError(t, err)
	require.NotEmpty(t, examples)
	for _, path := range examples {
		t.Run(filepath.Base(path), func(t *testing.T) {
			for _, u := range documents(t, path) {
				// What a CRD defines is served a moment after it was made.
				require.EventuallyWithT(t, func(t *assert.CollectT) {
					namespaced, err := c.IsObjectNamespaced(u)
					require.NoError(t, err)
					if namespaced {
						u.SetNamespace("default")
					}
					require.NoError(t, c.Create(context.Background(), u.DeepCopy(), client.DryRunAll, &client.CreateOptions{Raw: &metav1.CreateOptions{FieldValidation: "Strict"}}))
				}, 20*time.Second, 50*time.Millisecond)
			}
		})
	}
}

// documents of a YAML file.
func documents(t *testing.T, path string) (list []*unstructured.Unstructured) {
	text, err := os.ReadFile(path)
	require.NoError(t, err)
	for _, part := range strings.Split(string(text), "\n---\n") {
		u := &unstructured.Unstructured{}
		require.NoError(t, yaml.UnmarshalStrict([]byte(part), &u.Object))
		if len(u.Object) > 0 {
			list = append(list, u)
		}
	}
	return list
}
