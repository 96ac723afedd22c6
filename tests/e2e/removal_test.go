package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// takesADiskOut takes the disk that the story added out of the resource again, and has it
// wiped, while every acknowledged write is recorded. Named again it gets a new OSD, and is
// taken out as before.
func takesADiskOut(t *testing.T) {
	ctx := bounded(t)
	w := startWriter(t, "drained")
	seen, err := kubectl.Get(ctx, kubectl.Namespace, "storagecluster/"+story.Cluster, "{.spec.storage.nodes[0].devices[1].name} {.status.osds.summary}")
	require.NoError(t, err)
	require.Equal(t, "lab-node1-disk2 4/4", seen)
	id := strings.TrimSpace(inCeph(t, "ceph osd ls-tree node1 | sort -n | tail -n 1"))

	patch := func(operations string) {
		t.Helper()
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=json", "-p", "["+operations+"]")
		require.NoError(t, err)
	}
	const takeOut = `{"op":"remove","path":"/spec/storage/nodes/0/devices/1"}`
	policy := func(is string) string { return `{"op":"add","path":"/spec/storage/onRemoval","value":"` + is + `"}` }
	patch(policy("Wipe") + "," + takeOut)
	loseTheOperator(t)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.capacity.total} {.status.osds.summary}", "30Gi 3/3"))
	require.NoError(t, story.UntilReady(ctx, "storagecluster/"+story.Cluster))
	w.endVerb(t, "osd_remove", "osd.%s left", id)

	require.Len(t, strings.Fields(inCeph(t, "ceph osd ls")), 3)
	require.NotContains(t, inCeph(t, "ceph auth ls 2>/dev/null"), "osd."+id+"\n")
	left, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "deployment/"+story.Cluster+"-osd-"+id, "--ignore-not-found", "-o", "name")
	require.NoError(t, err)
	require.Empty(t, left)

	device := func(want string) {
		t.Helper()
		require.NoError(t, kubectl.UntilField(ctx, "", "nodestorage/node1", `{range .status.devices[?(@.id=="lab-node1-disk2")]}{.usable} {.osd.uuid}{end}`, want))
	}
	device("true ")
	patch(`{"op":"add","path":"/spec/storage/nodes/0/devices/-","value":{"name":"lab-node1-disk2"}}`)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.osds.summary}", "4/4"))
	require.NoError(t, story.UntilReady(ctx, "storagecluster/"+story.Cluster))
	require.Len(t, strings.Fields(inCeph(t, "ceph osd ls")), 4)

	patch(takeOut)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.osds.summary}", "3/3"))
	require.NoError(t, story.UntilReady(ctx, "storagecluster/"+story.Cluster))
	device("true ")
	patch(policy("Keep"))
}

// changesTheMons takes two of three mons away and adds two again, while every
// acknowledged write is recorded. The clients follow.
func changesTheMons(t *testing.T) {
	ctx := bounded(t)
	w := startWriter(t, "monitored")
	for _, count := range []string{"1", "3"} {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p", `{"spec":{"mon":{"count":`+count+`}}}`)
		require.NoError(t, err)
		loseTheOperator(t)
		require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.mons.summary}", count+"/"+count))
		require.NoError(t, story.UntilReady(ctx, "storagecluster/"+story.Cluster))
	}
	var mons []string
	for _, m := range monsOnNodes(ctx, t) {
		mons = append(mons, m.name)
	}
	require.Equal(t, []string{"a", "d", "e"}, mons, "no name is given twice")
	w.endVerb(t, "mon_count", "mons 3, 1, 3")
}
