package host

import (
	"io"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/fault"
)

// disk is a file that is bound to a loop device, and mounted somewhere.
type disk struct {
	t            *testing.T
	file, device string
	mountpoint   string
}

// bind binds a file to a device that ends with the test.
func bind(t *testing.T, path string, readOnly bool) *disk {
	file, err := os.OpenFile(path, os.O_RDWR, 0)
	require.NoError(t, err)
	device, err := loop.Bind(t.Context(), file, readOnly)
	require.NoError(t, err)
	require.NoError(t, file.Close())
	d := &disk{t: t, file: path, device: device.Path, mountpoint: t.TempDir()}
	t.Cleanup(func() {
		_ = unix.Unmount(d.mountpoint, unix.MNT_DETACH)
		_ = loop.Abandon(d.device, filepath.Base(path))
	})
	return d
}

func create(t *testing.T, name string, size int64) string {
	path := filepath.Join(t.TempDir(), name)
	require.NoError(t, os.WriteFile(path, nil, 0o600))
	require.NoError(t, os.Truncate(path, size))
	return path
}

// snapshot copies what the device holds now, while it is mounted.
func (d *disk) snapshot(name string) string {
	from, err := os.Open(d.file)
	require.NoError(d.t, err)
	path := filepath.Join(d.t.TempDir(), name)
	to, err := os.Create(path)
	require.NoError(d.t, err)
	_, err = io.Copy(to, from)
	require.NoError(d.t, err)
	require.NoError(d.t, from.Close())
	require.NoError(d.t, to.Close())
	return path
}

// eachFilesystem runs a test for each filesystem whose tools are there.
func eachFilesystem(t *testing.T, f func(t *testing.T, l *Linux, filesystem string)) {
	require.Zero(t, os.Geteuid(), "mounts need root")
	l := NewLinux()
	for _, filesystem := range []string{"ext4", "xfs", "btrfs"} {
		if l.CanFormat(filesystem) {
			t.Run(filesystem, func(t *testing.T) { f(t, l, filesystem) })
		}
	}
}

// What is smaller than its device is made to fill it, in a container that may grow
// a mounted ext4 and in one that may not.
func TestFill(t *testing.T) {
	eachFilesystem(t, func(t *testing.T, l *Linux, filesystem string) {
		ctx := t.Context()
		d := bind(t, create(t, "cairn-fill-"+filesystem, 512<<20), false)
		require.NoError(t, l.Mount(ctx, d.device, d.mountpoint, filesystem, nil))
		require.NoError(t, os.WriteFile(filepath.Join(d.mountpoint, "f"), []byte("x"), 0o600))
		before, err := l.Usage(d.mountpoint)
		require.NoError(t, err)
		require.NoError(t, l.Fill(ctx, d.device, d.mountpoint, filesystem, nil))
		require.NoError(t, l.Unmount(ctx, d.mountpoint))
		require.NoError(t, os.Truncate(d.file, 1<<30))
		require.NoError(t, loop.Refresh(d.device))
		require.NoError(t, l.Mount(ctx, d.device, d.mountpoint, filesystem, []string{"noatime"}))
		small, err := l.smaller(d.device, filesystem)
		require.NoError(t, err)
		require.True(t, small)
		require.NoError(t, l.Fill(ctx, d.device, d.mountpoint, filesystem, []string{"noatime"}))
		after, err := l.Usage(d.mountpoint)
		require.NoError(t, err)
		require.Greater(t, after.Bytes, before.Bytes+400<<20)
		require.FileExists(t, filepath.Join(d.mountpoint, "f"))
	})
}

func TestCheckBlank(t *testing.T) {
	eachFilesystem(t, func(t *testing.T, l *Linux, filesystem string) {
		d := bind(t, create(t, "cairn-blank-"+filesystem, 512<<20), false)
		require.NoError(t, l.CheckBlank(d.device, filesystem))
		require.NoError(t, l.Mount(t.Context(), d.device, d.mountpoint, filesystem, nil))
		require.NoError(t, l.CheckBlank(d.device, filesystem), "a filesystem is not of an unknown format")
	})
	for name, offset := range map[string]int64{"beginning": 5000, "end": 512<<20 - 1} {
		path := create(t, "cairn-foreign-"+name, 512<<20)
		f, err := os.OpenFile(path, os.O_WRONLY, 0)
		require.NoError(t, err)
		_, err = f.WriteAt([]byte("x"), offset)
		require.NoError(t, err)
		require.NoError(t, f.Close())
		err = NewLinux().CheckBlank(bind(t, path, false).device, "ext4")
		require.Equal(t, fault.Refused, fault.KindOf(err), name)
	}
}

func TestReadOnlyUnformattedIsRefused(t *testing.T) {
	d := bind(t, create(t, "cairn-unformatted", 512<<20), true)
	err := NewLinux().Mount(t.Context(), d.device, d.mountpoint, "ext4", []string{"ro"})
	require.Equal(t, fault.Refused, fault.KindOf(err))
}

func TestReadOnlyOptions(t *testing.T) {
	for options, want := range map[string]bool{"rw": false, "ro": true, "rw,errors=remount-ro": false, "rw,emergency_ro": true, "": false} {
		require.Equal(t, want, readOnly(options), options)
	}
	require.Error(t, NewLinux().Alive("/nowhere"))
	require.NoError(t, NewLinux().Alive("/"))
}

// Options are given to mount as they are: a quoted label stays quoted, for there
// may be a comma in it.
func TestOptionsAreGivenToMount(t *testing.T) {
	dir := t.TempDir()
	for tool, script := range map[string]string{
		"blkid": "echo TYPE=xfs", "fsck": "true", "mount": `printf '%s\n' "$@" >"${0%/*}/arguments"`,
	} {
		require.NoError(t, os.WriteFile(filepath.Join(dir, tool), []byte("#!/bin/sh\n"+script+"\n"), 0o755))
	}
	t.Setenv("PATH", dir+":"+os.Getenv("PATH"))
	label := `context="system_u:object_r:container_file_t:s0:c1,c2"`
	require.NoError(t, NewLinux().Mount(t.Context(), "/dev/null", "/mnt", "xfs", []string{"noatime", label}))
	arguments, err := os.ReadFile(filepath.Join(dir, "arguments"))
	require.NoError(t, err)
	require.Equal(t, "-t\nxfs\n-o\nnoatime,"+label+",_netdev,nouuid,defaults\n/dev/null\n/mnt\n", string(arguments))
}
