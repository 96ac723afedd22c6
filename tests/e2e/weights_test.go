package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// weighsAnOSD halves the weight of the OSD on the disk that the story added, and takes that
// back, while every acknowledged write is recorded. No daemon restarts.
func weighsAnOSD(t *testing.T) {
	ctx := bounded(t)
	const cluster = "storagecluster/" + story.Cluster
	w := startWriter(t, "weighed")
	seen, err := kubectl.Get(ctx, kubectl.Namespace, cluster, "{.spec.storage.nodes[0].devices[1].name} {.status.osds.summary}")
	require.NoError(t, err)
	require.Equal(t, "lab-node1-disk2 4/4", seen)
	id := strings.TrimSpace(inCeph(t, "ceph osd ls-tree node1 | sort -n | tail -n 1"))
	gib := func() float64 { return weightOf(t, id) * 1024 }
	generation := func() string {
		generation, err := kubectl.Get(ctx, kubectl.Namespace, "deployment/"+story.Cluster+"-osd-"+id, "{.metadata.generation}")
		require.NoError(t, err)
		return generation
	}
	require.InDelta(t, 10, gib(), 0.2)
	before := generation()
	for _, edit := range []struct {
		operation string
		gib       float64
	}{
		{`{"op":"add","path":"/spec/storage/nodes/0/devices/1/weight","value":"5Gi"}`, 5},
		{`{"op":"remove","path":"/spec/storage/nodes/0/devices/1/weight"}`, 10},
	} {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=json", "-p", "["+edit.operation+"]")
		require.NoError(t, err)
		require.NoError(t, kubectl.Until(ctx, fmt.Sprintf("osd.%s to have the weight of %.0f GiB", id, edit.gib), func() (bool, string) {
			now := gib()
			return now > edit.gib-0.2 && now < edit.gib+0.2, fmt.Sprintf("%.2f GiB", now)
		}))
		require.NoError(t, kubectl.Until(ctx, "all data to have moved", func() (bool, string) {
			said := inCeph(t, "ceph pg stat")
			return !strings.Contains(said, "remapped") && !strings.Contains(said, "backfill") && !strings.Contains(said, "degraded"), said
		}))
		require.NoError(t, story.UntilReady(ctx, cluster))
	}
	require.Equal(t, before, generation(), "its daemon is as it was")
	w.endVerb(t, "osd_weight", "osd.%s had half its weight", id)
}
