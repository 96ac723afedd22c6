package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// staysInItsZone makes a pool whose volumes are for one zone: pods go there by
// themselves, and where a pod is told to be elsewhere nothing is made.
func staysInItsZone(t *testing.T) {
	ctx := bounded(t)
	const zoned, there, elsewhere = "zoned", "node2", "node1"
	apply(t, blockPool{name: zoned, class: "topology: {zone: zone2}"})
	require.NoError(t, story.UntilReady(ctx, "blockpool/"+zoned))
	apply(t, claim{name: "zoned1", class: zoned}, claim{name: "zoned2", class: zoned}, claim{name: "elsewhere", class: zoned},
		pod{name: "zoned1", filesystems: []string{"zoned1"}}, pod{name: "zoned2", filesystems: []string{"zoned2"}},
		pod{name: "elsewhere", node: elsewhere, filesystems: []string{"elsewhere"}})
	running(t, "zoned1", "zoned2")
	for _, name := range []string{"zoned1", "zoned2"} {
		node, err := kubectl.Get(ctx, namespace, "pod/"+name, "{.spec.nodeName}")
		require.NoError(t, err)
		require.Equal(t, there, node)
		affinity, err := kubectl.Get(ctx, "", "pv/"+volumeOf(t, name), "{.spec.nodeAffinity.required.nodeSelectorTerms}")
		require.NoError(t, err)
		require.JSONEq(t, `[{"matchExpressions": [{"key": "topology.block.csi.cairn.storage/zone", "operator": "In", "values": ["zone2"]}]}]`, affinity)
	}
	t.Log(event(t, "Pod/elsewhere", "FailedScheduling", "available persistent volumes to bind"))
	drop(t, "pod/elsewhere", "pod/zoned1")
	volume, err := kubectl.Get(ctx, namespace, "pvc/elsewhere", "{.status.phase}{.spec.volumeName}")
	require.NoError(t, err)
	require.Equal(t, "Pending", volume)

	apply(t, pod{name: "moved", node: elsewhere, filesystems: []string{"zoned1"}})
	t.Log(event(t, "Pod/moved", "FailedScheduling", "PersistentVolume's node affinity"))
	drop(t, "pod/moved", "pod/zoned2", "pvc/zoned1", "pvc/zoned2", "pvc/elsewhere")
	nothingLeftIn(t, zoned)
}
