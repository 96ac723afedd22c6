package pool_test

import (
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

var classKinds = []schema.GroupVersionKind{
	{Group: "snapshot.storage.k8s.io", Version: "v1", Kind: "VolumeSnapshotClass"},
	{Group: "groupsnapshot.storage.k8s.io", Version: "v1", Kind: "VolumeGroupSnapshotClass"},
}

// installSnapshots makes the CRDs that deploy/snapshots.yaml has, for the test.
func (s *site) installSnapshots() {
	raw, err := os.ReadFile("../../deploy/snapshots.yaml")
	require.NoError(s.t, err)
	for _, part := range strings.Split(string(raw), "\n---\n") {
		crd := &unstructured.Unstructured{}
		require.NoError(s.t, yaml.Unmarshal([]byte(part), &crd.Object))
		if crd.GetKind() != "CustomResourceDefinition" {
			continue
		}
		require.NoError(s.t, s.Client.Create(s.t.Context(), crd))
		s.t.Cleanup(func() { _ = s.Client.Delete(s.t.Context(), crd) })
	}
	for _, kind := range classKinds {
		require.Eventually(s.t, func() bool { _, err := s.snapshotClass(kind, "none"); return apierrors.IsNotFound(err) }, 20*time.Second, 50*time.Millisecond)
	}
}

func (s *site) snapshotClass(kind schema.GroupVersionKind, name string) (*unstructured.Unstructured, error) {
	class := &unstructured.Unstructured{}
	class.SetGroupVersionKind(kind)
	return class, s.Client.Get(s.t.Context(), client.ObjectKey{Name: name}, class)
}

func TestAPoolHasSnapshotClassesWhereThereAreSnapshots(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	s.installSnapshots()
	p = s.look(p)
	for _, kind := range classKinds {
		class, err := s.snapshotClass(kind, p.Name)
		require.NoError(t, err, "the CRDs came later")
		require.Equal(t, "block.csi.cairn.storage", class.Object["driver"])
		require.Equal(t, "Delete", class.Object["deletionPolicy"])
		require.Equal(t, map[string]any{"clusterID": s.FSID()}, class.Object["parameters"])
	}
	writes := len(s.Writes())
	for range 3 {
		s.look(p)
	}
	require.Empty(t, s.Writes()[writes:])

	foreign := &unstructured.Unstructured{Object: map[string]any{"driver": "example.com/other", "deletionPolicy": "Retain"}}
	foreign.SetGroupVersionKind(classKinds[0])
	foreign.SetName(s.Namespace + "-taken")
	require.NoError(t, s.Client.Create(t.Context(), foreign))
	taken := s.look(s.pool("-taken"))
	require.Equal(t, v1alpha1.ReasonNameTaken, ready(taken).Reason)
	require.Contains(t, ready(taken).Message, "a VolumeSnapshotClass")
	require.NoError(t, s.Client.Delete(t.Context(), taken))
	require.Nil(t, s.look(taken))
	_, err := s.snapshotClass(classKinds[0], foreign.GetName())
	require.NoError(t, err)
	require.NoError(t, s.Client.Delete(t.Context(), foreign))

	require.NoError(t, s.Client.Delete(t.Context(), p))
	require.Nil(t, s.look(p))
	for _, kind := range classKinds {
		_, err := s.snapshotClass(kind, p.Name)
		require.True(t, apierrors.IsNotFound(err))
	}
}

func TestAPoolOfAZoneIsUsedThere(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool("", func(spec *v1alpha1.BlockPoolSpec) {
		spec.StorageClass.Topology = map[string]v1alpha1.Domain{"zone": "z1", "region": "r1"}
	}))
	class := s.class(p.Name)
	require.Equal(t, "region=r1,zone=z1", class.Parameters["topology"])
	require.Equal(t, storagev1.VolumeBindingWaitForFirstConsumer, *class.VolumeBindingMode)
	require.Equal(t, []corev1.TopologySelectorTerm{{MatchLabelExpressions: []corev1.TopologySelectorLabelRequirement{
		{Key: "topology.block.csi.cairn.storage/region", Values: []string{"r1"}},
		{Key: "topology.block.csi.cairn.storage/zone", Values: []string{"z1"}}}}}, class.AllowedTopologies)

	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.StorageClass.Topology = nil })
	s.converge(p)
	class = s.class(p.Name)
	require.Equal(t, storagev1.VolumeBindingImmediate, *class.VolumeBindingMode)
	require.Empty(t, class.AllowedTopologies)
	require.NotContains(t, class.Parameters, "topology")

	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) {
		spec.StorageClass.VolumeBindingMode = storagev1.VolumeBindingWaitForFirstConsumer
	})
	s.converge(p)
	require.Equal(t, storagev1.VolumeBindingWaitForFirstConsumer, *s.class(p.Name).VolumeBindingMode)

	s.refused(p, func(spec *v1alpha1.BlockPoolSpec) {
		spec.StorageClass.Topology = map[string]v1alpha1.Domain{"rack": "r1"}
	}, "spec.storageClass.topology")
}

// refused is an edit that is refused, with a message.
func (s *site) refused(p *v1alpha1.BlockPool, change func(*v1alpha1.BlockPoolSpec), says string) {
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(p), p))
	change(&p.Spec)
	require.ErrorContains(s.t, s.Client.Update(s.t.Context(), p), says)
}
