package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/csi/systemd/fake"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// restartsANode shuts a node down that was not drained, as systemd would, while a pod on it
// still writes as it ends, and makes nothing stable: all of it is there on the next start.
func restartsANode(t *testing.T) {
	w := startWriter(t, "restarted")
	name := others(t, w.node)[0]
	writes := pod{name: "writes-late", node: name, filesystems: []string{"late"}, devices: []string{"late-raw"}, script: `
		trap 'dd if=/dev/urandom of=/late/data bs=1M count=64 status=none; cat /late/data >/dev/late-raw; sha256sum </late/data >/late/sum; exit 0' TERM
		touch /tmp/waits; while :; do sleep 0.1; done`}
	apply(t, claim{name: "late"}, claim{name: "late-raw", block: true}, writes)
	running(t, writes.name)
	in(t, writes.name, "until [ -e /tmp/waits ]; do sleep 0.1; done")
	node, err := lab.Get(name)
	require.NoError(t, err)
	stayed, err := node.ShutDown(bounded(t), func(run string) { fake.Systemd(t, run, "stopping") })
	require.NoError(t, err)
	require.Empty(t, stayed, "each process ended by itself")
	require.NoError(t, node.Start(bounded(t)))

	apply(t, pod{name: "reads-late", node: name, filesystems: []string{"late"}, devices: []string{"late-raw"}})
	running(t, "reads-late")
	sums := strings.Fields(in(t, "reads-late", "stat -c %s /late/data; cut -d' ' -f1 /late/sum; for f in /late/data /dev/late-raw; do head -c 64M $f | sha256sum | cut -d' ' -f1; done"))
	require.Equal(t, []string{"67108864", sums[1], sums[1], sums[1]}, sums)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	w.endVerb(t, "node_restart", "%s was shut down and is back, with all that was written meanwhile", name)
}
