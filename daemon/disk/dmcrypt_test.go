package disk

import (
	"encoding/binary"
	"errors"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestWhetherANodeCanEncrypt(t *testing.T) {
	const loaded = " 58 device-mapper\n"
	for name, c := range map[string]struct {
		files   map[string]string
		targets []string
		err     error
		can     bool
		why     string
	}{
		"nothing":          {can: false, why: "Linux 6.1.0 has no dm-crypt, neither in the kernel nor as a module below /lib/modules/6.1.0"},
		"a module":         {files: map[string]string{"root/lib/modules/6.1.0/modules.dep": "kernel/a.ko.xz:\nkernel/drivers/md/dm-crypt.ko.xz: kernel/drivers/md/dm-mod.ko.xz\n"}, can: true},
		"needed by others": {files: map[string]string{"root/lib/modules/6.1.0/modules.dep": "kernel/a.ko: kernel/drivers/md/dm-crypt.ko\n"}, why: "no dm-crypt"},
		"another kernel's": {files: map[string]string{"root/lib/modules/6.0.0/modules.dep": "kernel/drivers/md/dm-crypt.ko:\n"}, why: "no dm-crypt"},
		"built in":         {files: map[string]string{"root/lib/modules/6.1.0/modules.builtin": "kernel/drivers/md/dm-crypt.ko\n"}, can: true},
		"without lists":    {files: map[string]string{"proc/misc": loaded}, targets: []string{"linear", "crypt"}, can: true},
		"others only":      {files: map[string]string{"proc/misc": loaded}, targets: []string{"linear"}, why: "no dm-crypt"},
		"not to be asked":  {files: map[string]string{"proc/misc": "1 crypt\n"}, targets: []string{"crypt"}, why: "no dm-crypt"},
		"cannot be asked":  {files: map[string]string{"proc/misc": loaded}, err: errors.New("not permitted"), why: "(not permitted)"},
	} {
		t.Run(name, func(t *testing.T) {
			host := fakeHost{t: t}
			root := t.TempDir()
			host.write(root+"/proc/sys/kernel/osrelease", "6.1.0\n")
			for file, text := range c.files {
				host.write(root+"/"+file, text)
			}
			got := Kernel{Proc: root + "/proc", Root: root + "/root", Targets: func() ([]string, error) { return c.targets, c.err }}.Encryption()
			require.Equal(t, c.can, got.Available)
			require.Contains(t, got.Message, c.why)
			require.Equal(t, c.can, got.Message == "")
		})
	}
}

func TestParseTargets(t *testing.T) {
	entry := func(next int, name string) []byte {
		data := make([]byte, 16, 40)
		binary.NativeEndian.PutUint32(data, uint32(next))
		return append(append(data, name...), make([]byte, 24-len(name))...)
	}
	list := append(entry(40, "linear"), entry(0, "crypt")...)
	require.Equal(t, []string{"linear", "crypt"}, parseTargets(list))
	require.Equal(t, []string{"linear"}, parseTargets(entry(4000, "linear")))
	require.Empty(t, parseTargets(nil))
}
