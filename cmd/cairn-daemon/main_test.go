package main

import (
	"bytes"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/disk"
)

func TestInstall(t *testing.T) {
	dir := t.TempDir()
	program := filepath.Join(dir, "program")
	require.NoError(t, os.WriteFile(program, []byte("one"), 0o600))
	require.NoError(t, install(program, dir))
	require.NoError(t, os.WriteFile(program, []byte("two"), 0o600))
	require.NoError(t, install(program, dir))
	info, err := os.Stat(filepath.Join(dir, "cairn-daemon"))
	require.NoError(t, err)
	require.Equal(t, os.FileMode(0o755), info.Mode())
	content, err := os.ReadFile(filepath.Join(dir, "cairn-daemon"))
	require.NoError(t, err)
	require.Equal(t, "two", string(content))
	entries, err := os.ReadDir(dir)
	require.NoError(t, err)
	require.Len(t, entries, 2)
	require.Error(t, install(program, filepath.Join(dir, "absent")))
}

func TestCommandLine(t *testing.T) {
	tests := []struct {
		args []string
		want string
	}{
		{[]string{"osd", "run", "--", "true"}, `required flag(s) "data-dir", "device", "fsid", "id", "keyring", "uuid" not set`},
		{[]string{"osd", "run", "--device", "/dev/sdb", "--id", "1", "--uuid", "x", "--fsid", "y", "--data-dir", "/d", "--keyring", "/k", "--", "true"}, "device: "},
		{[]string{"agent", "--node", ""}, "--node: "},
		{[]string{"agent", "--node", "n", "--interval", "1ms"}, "--interval: "},
		{[]string{"install"}, "accepts 1 arg(s)"},
		{[]string{"mon", "rebuild"}, `required flag(s) "backup", "dir", "fsid", "mon" not set`},
		{[]string{"mon", "keep", "--dir", "/absent", "--mon", "a", "--fsid", "x", "--backup", "b"}, "open the mons' stores"},
		{[]string{"disks", "--mountinfo", "/absent"}, "list mounts"},
	}
	for _, test := range tests {
		command := newCommand()
		command.SetArgs(test.args)
		require.ErrorContains(t, command.ExecuteContext(t.Context()), test.want)
	}
}

func TestPrintDisks(t *testing.T) {
	var out bytes.Buffer
	require.NoError(t, printDisks(&out, []v1alpha1.Device{
		{Name: "sda", Size: resource.MustParse("256Gi"), Reason: v1alpha1.DeviceInUse, Message: "the device is mounted at /"},
		{Name: "sdb", ID: "wwn-0x1", Size: resource.MustParse("10Gi"), Usable: true},
	}))
	require.Equal(t, "NAME  ID       SIZE   STATE   MESSAGE\n"+
		"sda   -        256Gi  InUse   the device is mounted at /\n"+
		"sdb   wwn-0x1  10Gi   usable  \n", out.String())
}

func TestAnOSDOnTheCommandLine(t *testing.T) {
	request, err := parseOSD("3,1a2b,/dev/disk/by-id/a,/dev/disk/by-id/b,")
	require.NoError(t, err)
	require.Equal(t, disk.Request{ID: 3, UUID: "1a2b", Device: "/dev/disk/by-id/a", DB: "/dev/disk/by-id/b"}, request)
	request, err = parseOSD("4,1a2b,/dev/disk/by-id/a,,/run/encryption/4/encryption-key")
	require.NoError(t, err)
	require.Equal(t, disk.Request{ID: 4, UUID: "1a2b", Device: "/dev/disk/by-id/a", Key: "/run/encryption/4/encryption-key"}, request)
	for _, wrong := range []string{"", "3,1a2b,/dev/disk/by-id/a,", "3,1a2b,a,b,c,d", "x,1a2b,a,b,c"} {
		_, err := parseOSD(wrong)
		require.ErrorContains(t, err, "--osd: ")
	}
}

// An OSD whose disk only wants its key, or is in use, is not to be given up.
func TestWhichOSDIsSaidToBeGivenUp(t *testing.T) {
	require.Contains(t, giveUpAdvice(errors.New("find device: no such file")), "when its disk is gone for ever")
	require.Contains(t, giveUpAdvice(&disk.RefusedError{Reason: disk.OtherOSD}), "when its disk is gone for ever")
	require.Empty(t, giveUpAdvice(fmt.Errorf("prepare: %w", &disk.RefusedError{Reason: disk.Encrypted})))
	require.Empty(t, giveUpAdvice(fmt.Errorf("prepare: %w", fmt.Errorf("%w for 10s", disk.ErrLocked))))
}
