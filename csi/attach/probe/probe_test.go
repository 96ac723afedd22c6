package probe

import (
	"os"
	"path/filepath"
	"testing"

	"github.com/stretchr/testify/require"
)

func TestMethods(t *testing.T) {
	for name, c := range map[string]struct {
		files []string
		best  string
		why   []string
	}{
		"nothing":   {nil, "", []string{"no rbd", "/dev/"}},
		"loop only": {[]string{"dev/loop-control"}, "", []string{"no rbd", "/dev/fuse"}},
		"fuse":      {[]string{"dev/loop-control", "dev/fuse"}, FUSE, []string{"no rbd", ""}},
		"both":      {[]string{"dev/loop-control", "dev/fuse", "sys/bus/rbd/add_single_major"}, KRBD, []string{"", ""}},
	} {
		t.Run(name, func(t *testing.T) {
			root := t.TempDir()
			for _, f := range c.files {
				require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(f)), 0o755))
				require.NoError(t, os.WriteFile(filepath.Join(root, f), nil, 0o644))
			}
			methods := Methods(root)
			require.Equal(t, c.best, Best(methods))
			for i, m := range methods {
				require.Contains(t, m.Reason, c.why[i])
				require.Equal(t, m.Usable, m.Reason == "")
			}
		})
	}
}

// A kernel that does not know the type of the nodes' keys is not chosen.
func TestKernelKnowsTheKeys(t *testing.T) {
	for release, usable := range map[string]bool{
		"6.1.0-50-amd64": false, "5.14.0-427.el9.x86_64": false, "6.18.44": false,
		"7.0.0": true, "7.1.2-1-amd64": true, "10.0": true, "": true, "odd": true,
	} {
		root := t.TempDir()
		for path, text := range map[string]string{"sys/bus/rbd/add_single_major": "", "proc/sys/kernel/osrelease": release + "\n"} {
			require.NoError(t, os.MkdirAll(filepath.Join(root, filepath.Dir(path)), 0o755))
			require.NoError(t, os.WriteFile(filepath.Join(root, path), []byte(text), 0o644))
		}
		m := Methods(root)[0]
		require.Equal(t, usable, m.Usable, release)
		if !usable {
			require.Contains(t, m.Reason, "aes256k")
			require.Contains(t, m.Reason, release)
		}
	}
}
