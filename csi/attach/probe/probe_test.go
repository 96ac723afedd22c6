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
