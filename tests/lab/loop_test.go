package lab

import (
	"os"
	"path/filepath"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
)

// As kubelet does with a raw volume: the upper device keeps the lower one open.
func TestLoopDevicesOnOneAnotherAreDetached(t *testing.T) {
	for name, order := range map[string]func([]loop){"the lower first": func([]loop) {}, "the upper first": slices.Reverse[[]loop]} {
		t.Run(name, func(t *testing.T) {
			file := filepath.Join(t.TempDir(), "disk")
			require.NoError(t, os.WriteFile(file, make([]byte, 1<<20), 0o600))
			var loops []loop
			for below := file; len(loops) < 2; below = loops[len(loops)-1].device {
				device, err := run(t.Context(), "losetup", "--find", "--show", below)
				require.NoError(t, err)
				device = strings.TrimSpace(device)
				t.Cleanup(func() { _, _ = run(t.Context(), "losetup", "--detach", device) })
				loops = append(loops, loop{device: device, backing: below})
			}
			order(loops)
			require.NoError(t, detachLoops(t.Context(), loops))
			for _, l := range loops {
				require.False(t, attached(l))
			}
		})
	}
}
