package process

import (
	"context"
	"os"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/systemd/fake"
)

// The node is shut down: everything is asked to stop at once. What is still written goes
// through, also without the keeper, and is there when the node is up again.
func TestServesWhatIsInUseWhenItsNodeIsShutDown(t *testing.T) {
	for name, flags := range map[string]int{"mounted": os.O_EXCL, "open in a process": 0} {
		t.Run(name, func(t *testing.T) {
			n := newNode(t)
			v, unused := n.volume(128<<20), n.volume(16<<20)
			device, err := n.client.Attach(n.ctx, v)
			require.NoError(t, err)
			_, err = n.client.Attach(n.ctx, unused)
			require.NoError(t, err)
			used, err := os.OpenFile(device.Path, os.O_RDWR|syscall.O_DIRECT|flags, 0)
			require.NoError(t, err)
			fake.Systemd(t, n.dir.run(), "stopping")
			w := n.write(device.Path)
			n.keeper.end(syscall.SIGTERM)
			for range 2 { // its supervisor's, and systemd's own
				require.NoError(t, n.attach.Process.Signal(syscall.SIGTERM))
			}
			require.Eventually(t, func() bool { return strings.Contains(n.attach.said.String(), "The node is shut down") }, 20*time.Second, 5*time.Millisecond)
			require.NoError(t, n.client.Detach(n.ctx, unused.ID))
			w.progress()
			t.Log(w.stop())
			block := aligned()
			block[0] = 7
			_, err = used.WriteAt(block, 0)
			require.NoError(t, err)
			require.NoError(t, used.Close())
			defer context.AfterFunc(n.ctx, func() { _ = n.attach.Process.Kill() })()
			require.NoError(t, n.attach.Wait(), "it ends as soon as nothing is in use: %s", &n.attach.said)

			n.startKeeper()
			n.startAttach()
			device, err = n.client.Attach(n.ctx, v)
			require.NoError(t, err)
			require.Equal(t, byte(7), get(t, device.Path))
			n.detach(v)
		})
	}
}
