package e2e

import (
	"encoding/json"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// growsADisk makes the disk that the story added larger and restarts its OSD, which then
// holds more and gets more, while every acknowledged write is recorded.
func growsADisk(t *testing.T) {
	ctx := bounded(t)
	const cluster, gib = "storagecluster/" + story.Cluster, 1 << 30
	w := startWriter(t, "grown")
	id := strings.TrimSpace(inCeph(t, "ceph osd ls-tree node1 | sort -n | tail -n 1"))
	require.InDelta(t, 10, weightOf(t, id)*1024, 0.1)

	require.NoError(t, lab.GrowDisk(ctx, "node1/disk2", 12*gib))
	require.NoError(t, kubectl.UntilField(ctx, "", "nodestorage/node1", `{range .status.devices[?(@.id=="lab-node1-disk2")]}{.size}{end}`, "12Gi"))
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "restart", "deployment/"+story.Cluster+"-osd-"+id)
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, "osd."+id+" to weigh 12 GiB", func() (bool, string) {
		tree := inCeph(t, "ceph osd tree")
		weight := weightOf(t, id) * 1024
		return weight > 11.9 && weight < 12.1, tree
	}))
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, "{.status.capacity.total} {.status.osds.summary}", "42Gi 4/4"))
	require.NoError(t, story.UntilReady(ctx, cluster))
	w.endVerb(t, "osd_grow", "osd.%s grew from 10 to 12 GiB", id)
}

// weightOf an OSD in the CRUSH map, in TiB.
func weightOf(t *testing.T, id string) float64 {
	t.Helper()
	var tree struct {
		Nodes []struct {
			Name   string  `json:"name"`
			Weight float64 `json:"crush_weight"`
		} `json:"nodes"`
	}
	require.NoError(t, json.Unmarshal([]byte(inCeph(t, "ceph osd tree --format json")), &tree))
	for _, node := range tree.Nodes {
		if node.Name == "osd."+id {
			return node.Weight
		}
	}
	require.Fail(t, "no osd."+id+" in the tree")
	return 0
}
