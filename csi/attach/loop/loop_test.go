package loop

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestLifeOfADevice(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	if _, err := os.Stat(control); err != nil {
		t.Skip("the kernel has no loop devices: " + err.Error())
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "cairn-test-backing"))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	require.NoError(t, file.Truncate(1<<20))
	const backing = "cairn-test-backing"

	device, err := Bind(t.Context(), file, false)
	require.NoError(t, err)
	defer func() { _ = Abandon(device.Path, backing) }()
	bound, err := BoundTo(device.Path, backing)
	require.NoError(t, err)
	require.True(t, bound)
	other, err := BoundTo(device.Path, "other")
	require.NoError(t, err)
	require.False(t, other)

	found, err := Find(backing)
	require.NoError(t, err)
	require.Equal(t, &device, found)
	found, err = Find("other")
	require.NoError(t, err)
	require.Nil(t, found)

	require.NoError(t, file.Truncate(3<<20))
	require.NoError(t, Refresh(device.Path))
	size, err := Size(device.Path)
	require.NoError(t, err)
	require.Equal(t, int64(3<<20), size)

	require.NoError(t, Release(device.Path, "other"), "another's device is left alone")
	bound, err = BoundTo(device.Path, backing)
	require.NoError(t, err)
	require.True(t, bound)
	require.NoError(t, Release(device.Path, backing))
	bound, err = BoundTo(device.Path, backing)
	require.NoError(t, err)
	require.False(t, bound)
	require.NoError(t, Release(device.Path, backing), "once more")
}

func TestAnOpenDeviceIsNotReleased(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("loop devices need root")
	}
	if _, err := os.Stat(control); err != nil {
		t.Skip("the kernel has no loop devices: " + err.Error())
	}
	file, err := os.Create(filepath.Join(t.TempDir(), "cairn-test-backing"))
	require.NoError(t, err)
	defer func() { _ = file.Close() }()
	require.NoError(t, file.Truncate(1<<20))
	const backing = "cairn-test-backing"
	device, err := Bind(t.Context(), file, true)
	require.NoError(t, err)
	open, err := os.Open(device.Path)
	require.NoError(t, err)
	require.Error(t, Release(device.Path, backing))
	require.NoError(t, open.Close())
	require.NoError(t, Release(device.Path, backing))
	bound, err := BoundTo(device.Path, backing)
	require.NoError(t, err)
	require.False(t, bound)
}
