package host

import (
	"errors"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach/loop"
)

const info = `22 27 0:20 / /sys rw,nosuid shared:7 - sysfs sysfs rw
36 35 7:3 / /var/lib/kubelet/a\040b rw,relatime shared:1 master:2 - ext4 /dev/loop3 rw
40 35 7:4 / /mnt rw - xfs /dev/loop4 rw
41 40 7:5 / /mnt ro,noatime - xfs /dev/loop5 ro
42 35 0:5 /loop3 /target rw shared:2 - devtmpfs devtmpfs rw
`

func TestMountAt(t *testing.T) {
	for path, want := range map[string]*Mount{
		"/nowhere":             nil,
		"/var/lib/kubelet/a b": {Device: Number{7, 3}, Filesystem: "ext4", source: "/dev/loop3"},
		"/mnt":                 {Device: Number{7, 5}, Filesystem: "xfs", ReadOnly: true, FilesystemReadOnly: true, source: "/dev/loop5"},
		"/target":              {Device: Number{0, 5}, Filesystem: "devtmpfs", source: "devtmpfs"},
	} {
		got, err := mountAt(info, path)
		require.NoError(t, err)
		require.Equal(t, want, got, path)
	}
}

// needingNetwork are the mounts at some paths that systemd would take for those of a network.
func needingNetwork(t *testing.T, paths ...string) []string {
	out, err := exec.Command("findmnt", "--list", "--noheadings", "--output", "TARGET", "--mtab", "--options", "_netdev").Output()
	if exit := (*exec.ExitError)(nil); !errors.As(err, &exit) {
		require.NoError(t, err) // it exits with 1 when there is none
	}
	table, err := os.ReadFile(mountTable)
	require.NoError(t, err)
	var found []string
	for _, path := range paths {
		if strings.Contains(string(out), path+"\n") {
			found = append(found, path)
		} else {
			require.NotContains(t, string(table), strings.ReplaceAll(path, " ", `\040`)+" ", "a line is left of what is not mounted")
		}
	}
	return found
}

// The real kernel: format, mount, bind, grow, unmount, for each filesystem that can be made here.
func TestLinux(t *testing.T) {
	if os.Geteuid() != 0 {
		t.Skip("mounts need root")
	}
	for _, filesystem := range []string{"ext4", "xfs", "btrfs"} {
		t.Run(filesystem, func(t *testing.T) {
			l := NewLinux()
			if !l.CanFormat(filesystem) {
				t.Skipf("mkfs.%s is not installed", filesystem)
			}
			ctx := t.Context()
			file, err := os.Create(filepath.Join(t.TempDir(), "cairn-host-test-"+filesystem))
			require.NoError(t, err)
			defer func() { _ = file.Close() }()
			require.NoError(t, file.Truncate(512<<20))
			backing := "cairn-host-test-" + filesystem
			device, err := loop.Bind(ctx, file, false)
			if err != nil {
				t.Skip("no loop devices: " + err.Error())
			}
			defer func() { _ = loop.Abandon(device.Path, backing) }()
			stage, target := filepath.Join(t.TempDir(), "with space"), filepath.Join(t.TempDir(), "target")
			require.NoError(t, os.Mkdir(stage, 0o755))
			require.NoError(t, os.Mkdir(target, 0o755))
			defer func() { _ = unix.Unmount(target, unix.MNT_DETACH); _ = unix.Unmount(stage, unix.MNT_DETACH) }()

			number, err := l.DeviceAt(device.Path)
			require.NoError(t, err)
			require.Equal(t, &Number{device.Major, device.Minor}, number)
			require.NoError(t, l.Mount(ctx, device.Path, stage, filesystem, []string{"noatime"}))
			require.NoError(t, os.WriteFile(filepath.Join(stage, "f"), []byte("x"), 0o600))
			m, err := l.MountAt(stage)
			require.NoError(t, err)
			require.Equal(t, *number, m.Device)
			require.NoError(t, l.Bind(ctx, stage, target, true))
			require.ErrorIs(t, os.WriteFile(filepath.Join(target, "f"), nil, 0o600), unix.EROFS)
			require.Len(t, needingNetwork(t, stage, target), 2)
			paths, err := l.MountsOf(*number)
			require.NoError(t, err)
			require.Equal(t, []string{stage, target}, paths)

			before, err := l.Usage(stage)
			require.NoError(t, err)
			require.NoError(t, file.Truncate(1<<30))
			require.NoError(t, loop.Refresh(device.Path))
			if err := l.Grow(ctx, device.Path, stage); err != nil {
				t.Logf("online growth is not possible here: %v", err)
			} else {
				after, err := l.Usage(stage)
				require.NoError(t, err)
				require.Greater(t, after.Bytes, before.Bytes)
			}
			require.NoError(t, l.Unmount(ctx, target))
			require.NoError(t, l.Unmount(ctx, stage))
			require.NoError(t, l.Unmount(ctx, stage), "none is fine")
			require.Empty(t, needingNetwork(t, stage, target))
			// What is formatted as one is not mounted as another, and never formatted again.
			other := map[string]string{"ext4": "xfs", "xfs": "ext4", "btrfs": "ext4"}[filesystem]
			require.Error(t, l.Mount(ctx, device.Path, stage, other, nil))
			require.NoError(t, l.Mount(ctx, device.Path, stage, filesystem, nil))
			require.FileExists(t, filepath.Join(stage, "f"))
			require.NoError(t, l.Unmount(ctx, stage))
			require.NoError(t, loop.Release(device.Path, backing))
		})
	}
}
