package sidecar

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

func volumeOf(size, note string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v", Annotations: map[string]string{"note": note}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
				Driver: "d", VolumeAttributes: map[string]string{"pool": note}}},
		},
	}
}

// A trimmed object says what it said before, but for its managed fields, and
// shares its maps with those that say the same, and with no others.
func TestTrimmedObjectsShareWhatTheyHaveAlike(t *testing.T) {
	trimmed := func(size, note string) *corev1.PersistentVolume {
		got, err := trim(volumeOf(size, note))
		require.NoError(t, err)
		want := volumeOf(size, note)
		want.ManagedFields = nil
		require.True(t, want.Spec.Capacity.Storage().Equal(*got.(*corev1.PersistentVolume).Spec.Capacity.Storage()))
		require.Equal(t, want.Annotations, got.(*corev1.PersistentVolume).Annotations)
		require.Equal(t, want.Spec.CSI, got.(*corev1.PersistentVolume).Spec.CSI)
		require.Equal(t, want.Spec.AccessModes, got.(*corev1.PersistentVolume).Spec.AccessModes)
		require.Empty(t, got.(*corev1.PersistentVolume).ManagedFields)
		return got.(*corev1.PersistentVolume)
	}
	same := func(a, b any) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	one, two, other := trimmed("1Gi", "a"), trimmed("1Gi", "a"), trimmed("2Gi", "b")
	require.True(t, same(one.Spec.Capacity, two.Spec.Capacity))
	require.True(t, same(one.Spec.CSI.VolumeAttributes, two.Spec.CSI.VolumeAttributes))
	require.False(t, same(one.Annotations, two.Annotations), "what controllers change is nobody else's")
	require.False(t, same(one.Spec.Capacity, other.Spec.Capacity))
	require.False(t, same(one.Spec.CSI.VolumeAttributes, other.Spec.CSI.VolumeAttributes))
}
