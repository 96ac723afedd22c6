package host

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/fault"
)

// written has a file that was synced on a mounted filesystem.
func written(t *testing.T, l *Linux, filesystem string) *disk {
	d := bind(t, create(t, "cairn-origin-"+filesystem, 512<<20), false)
	require.NoError(t, l.Mount(t.Context(), d.device, d.mountpoint, filesystem, nil))
	f, err := os.Create(filepath.Join(d.mountpoint, "f"))
	require.NoError(t, err)
	_, err = f.WriteString("synced")
	require.NoError(t, err)
	require.NoError(t, f.Sync())
	t.Cleanup(func() { _ = f.Close() })
	return d
}

func (d *disk) holdsTheFile() {
	content, err := os.ReadFile(filepath.Join(d.mountpoint, "f"))
	require.NoError(d.t, err)
	require.Equal(d.t, "synced", string(content))
}

// A snapshot of a mounted filesystem, whose log was replayed once, is read from a
// device that cannot be written to, beside its origin: all that was synced is
// there, and the filesystem fills its device.
func TestReplayedLogIsRead(t *testing.T) {
	eachFilesystem(t, func(t *testing.T, l *Linux, filesystem string) {
		if filesystem == "btrfs" {
			return // two of one UUID are mounted at once by newer kernels only
		}
		ctx := t.Context()
		snapshot := written(t, l, filesystem).snapshot("cairn-snapshot-" + filesystem)
		require.NoError(t, os.Truncate(snapshot, 1<<30))
		other := map[string]string{"ext4": "xfs", "xfs": "ext4"}[filesystem]
		clone := bind(t, snapshot, false)
		require.Equal(t, fault.Refused, fault.KindOf(l.Recover(ctx, clone.device, clone.mountpoint, other, nil)))
		options := []string{"noatime", "ro", "norecovery"}
		require.NoError(t, l.Recover(ctx, clone.device, clone.mountpoint, filesystem, options))
		clone.holdsTheFile()
		require.NoError(t, l.Fill(ctx, clone.device, clone.mountpoint, filesystem, []string{"noatime"}))
		require.NoError(t, l.Unmount(ctx, clone.mountpoint))
		require.NoError(t, l.Flush(ctx, clone.device))

		readers := []*disk{bind(t, snapshot, true), bind(t, snapshot, true)}
		for _, r := range readers {
			require.NoError(t, l.Mount(ctx, r.device, r.mountpoint, filesystem, []string{"ro"}))
			m, err := l.MountAt(r.mountpoint)
			require.NoError(t, err)
			require.True(t, m.ReadOnly && m.FilesystemReadOnly && !m.WithoutLog)
			r.holdsTheFile()
			usage, err := l.Usage(r.mountpoint)
			require.NoError(t, err)
			require.Greater(t, usage.Bytes, int64(800<<20))
		}
	})
}

// What is in a log that may not be replayed is passed over, and that is seen.
func TestWithoutLog(t *testing.T) {
	eachFilesystem(t, func(t *testing.T, l *Linux, filesystem string) {
		if filesystem == "btrfs" {
			return // two of one UUID are mounted at once by newer kernels only
		}
		ctx := t.Context()
		r := bind(t, written(t, l, filesystem).snapshot("cairn-snapshot-"+filesystem), true)
		require.Error(t, l.Mount(ctx, r.device, r.mountpoint, filesystem, []string{"ro"}))
		require.NoError(t, l.MountWithoutLog(ctx, r.device, r.mountpoint, filesystem, []string{"ro"}))
		m, err := l.MountAt(r.mountpoint)
		require.NoError(t, err)
		require.True(t, m.FilesystemReadOnly && m.WithoutLog)
		require.ErrorIs(t, os.WriteFile(filepath.Join(r.mountpoint, "g"), nil, 0o600), unix.EROFS)
	})
}

// No filesystem is made where one is to be read.
func TestNothingIsRecoveredFromAnEmptyDevice(t *testing.T) {
	d := bind(t, create(t, "cairn-empty", 512<<20), false)
	l := NewLinux()
	require.Equal(t, fault.Refused, fault.KindOf(l.Recover(t.Context(), d.device, d.mountpoint, "ext4", nil)))
	format, err := l.mounter.GetDiskFormat(d.device)
	require.NoError(t, err)
	require.Empty(t, format)
	require.Error(t, l.Flush(t.Context(), "/nowhere"))
}
