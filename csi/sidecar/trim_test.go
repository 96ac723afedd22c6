package sidecar

import (
	"reflect"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
)

func volumeOf(size, note string) *corev1.PersistentVolume {
	return &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: "v", Annotations: map[string]string{"note": note}, ManagedFields: []metav1.ManagedFieldsEntry{{Manager: "x"}}},
		Spec: corev1.PersistentVolumeSpec{
			Capacity:    corev1.ResourceList{corev1.ResourceStorage: resource.MustParse(size)},
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode:  ptr.To(corev1.PersistentVolumeFilesystem),
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
		require.Equal(t, want.Spec.VolumeMode, got.(*corev1.PersistentVolume).Spec.VolumeMode)
		require.Equal(t, want.Spec.AccessModes, got.(*corev1.PersistentVolume).Spec.AccessModes)
		require.Empty(t, got.(*corev1.PersistentVolume).ManagedFields)
		return got.(*corev1.PersistentVolume)
	}
	same := func(a, b any) bool { return reflect.ValueOf(a).Pointer() == reflect.ValueOf(b).Pointer() }
	one, two, other := trimmed("1Gi", "a"), trimmed("1Gi", "a"), trimmed("2Gi", "b")
	require.True(t, same(one.Spec.Capacity, two.Spec.Capacity))
	require.True(t, same(one.Spec.CSI.VolumeAttributes, two.Spec.CSI.VolumeAttributes))
	require.True(t, same(one.Annotations, two.Annotations))
	require.True(t, same(one.Spec.AccessModes, two.Spec.AccessModes))
	require.True(t, same(one.Spec.VolumeMode, two.Spec.VolumeMode))
	require.False(t, same(one.Annotations, other.Annotations))
	require.False(t, same(one.Spec.Capacity, other.Spec.Capacity))
	require.False(t, same(one.Spec.CSI.VolumeAttributes, other.Spec.CSI.VolumeAttributes))
}

// Controllers change copies of what is in a cache: what others share stays.
func TestACopyOfATrimmedObjectIsItsOwn(t *testing.T) {
	one, err := trim(volumeOf("1Gi", "c"))
	require.NoError(t, err)
	two, err := trim(volumeOf("1Gi", "c"))
	require.NoError(t, err)
	changed := one.(*corev1.PersistentVolume).DeepCopy()
	changed.Annotations["note"], changed.Spec.CSI.VolumeAttributes["pool"] = "d", "d"
	changed.Spec.AccessModes[0], *changed.Spec.VolumeMode = corev1.ReadOnlyMany, corev1.PersistentVolumeBlock
	changed.Spec.Capacity[corev1.ResourceStorage] = resource.MustParse("2Gi")
	require.Equal(t, volumeOf("1Gi", "c").Annotations, two.(*corev1.PersistentVolume).Annotations)
	require.Equal(t, volumeOf("1Gi", "c").Spec.CSI, two.(*corev1.PersistentVolume).Spec.CSI)
	require.Equal(t, corev1.ReadWriteOnce, two.(*corev1.PersistentVolume).Spec.AccessModes[0])
	require.Equal(t, corev1.PersistentVolumeFilesystem, *two.(*corev1.PersistentVolume).Spec.VolumeMode)
	require.Equal(t, "1Gi", two.(*corev1.PersistentVolume).Spec.Capacity.Storage().String())
}
