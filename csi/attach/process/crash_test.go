package process

import (
	"fmt"
	"syscall"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
)

// rounds of killing, for each signal.
const rounds = 50

// The attach process is killed, and asked to stop, again and again under I/O: no
// error, no acknowledged write lost, nothing stale.
func TestKilledUnderIO(t *testing.T) {
	for _, signal := range []syscall.Signal{syscall.SIGKILL, syscall.SIGTERM} {
		t.Run(signal.String(), func(t *testing.T) {
			n := newNode(t)
			v := n.volume(128 << 20)
			device, err := n.client.Attach(n.ctx, v)
			require.NoError(t, err)
			w := n.write(device.Path)
			for range rounds {
				n.attach.end(signal)
				n.startAttach()
				w.progress()
			}
			result := w.stop()
			fmt.Printf("%d × %v: %d writes acknowledged, %d read back, 0 lost, 0 stale, longest stall %v\n",
				rounds, signal, result.acknowledged, result.read, result.stall.Round(time.Millisecond))
			require.NoError(t, n.client.Detach(n.ctx, v.ID))
			n.leavesNothing(v)
		})
	}
}
