package csidriver

import (
	"testing"

	"github.com/stretchr/testify/require"
	storagev1 "k8s.io/api/storage/v1"
)

// Kubelet and the scheduler do these things only for a driver that says so.
func TestDriverSaysWhatItCan(t *testing.T) {
	spec := csiDriver().Spec
	require.True(t, *spec.SELinuxMount, "labels are a mount option, not written to each file")
	require.True(t, *spec.StorageCapacity)
	require.True(t, *spec.AttachRequired)
	require.Equal(t, storagev1.FileFSGroupPolicy, *spec.FSGroupPolicy)
}
