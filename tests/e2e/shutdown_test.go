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
	writes := pod{name: "writes-late", node: name, filesystems: []string{"late"}, script: `
		trap 'dd if=/dev/urandom of=/late/data bs=1M count=64 status=none; sha256sum </late/data >/late/sum; exit 0' TERM
		touch /tmp/waits; while :; do sleep 0.1; done`}
	apply(t, claim{name: "late"}, writes)
	running(t, writes.name)
	in(t, writes.name, "until [ -e /tmp/waits ]; do sleep 0.1; done")
	node, err := lab.Get(name)
	require.NoError(t, err)
	stayed, err := node.ShutDown(bounded(t), func(socket string) { fake.Serve(t, socket, "stopping") })
	require.NoError(t, err)
	require.Empty(t, stayed, "each process ended by itself")
	require.NoError(t, node.Start(bounded(t)))

	apply(t, pod{name: "reads-late", node: name, filesystems: []string{"late"}})
	running(t, "reads-late")
	require.Equal(t, "67108864", strings.TrimSpace(in(t, "reads-late", `[ "$(sha256sum </late/data)" = "$(cat /late/sum)" ] && stat -c %s /late/data`)))
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	w.endVerb(t, "node_restart", "%s was shut down and is back, with all that was written meanwhile", name)
}
