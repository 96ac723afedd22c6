package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// movesADisk puts a disk with an OSD into another node and names it there, and then
// takes it out of the resource, while every acknowledged write is recorded.
func movesADisk(t *testing.T) {
	ctx := bounded(t)
	const cluster = "storagecluster/" + story.Cluster
	w := startWriter(t, "moved")
	nodes := others(t, w.node)
	from, to := nodes[0], nodes[1]
	devices := func(node string) string {
		return "/spec/storage/nodes/" + strconv.Itoa(int(node[len(node)-1]-'1')) + "/devices/"
	}
	patch := func(operations string) {
		t.Helper()
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=json", "-p", "["+operations+"]")
		require.NoError(t, err)
	}
	osds := func(summary string) {
		t.Helper()
		require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, "{.status.osds.summary}", summary))
		require.NoError(t, story.UntilReady(ctx, cluster))
	}
	add := func(node, disk string) string {
		return fmt.Sprintf(`{"op":"add","path":"%s-","value":{"name":"%s"}}`, devices(node), strings.TrimPrefix(disk, "/dev/disk/by-id/"))
	}
	remove := func(node string) string { return fmt.Sprintf(`{"op":"remove","path":"%s1"}`, devices(node)) }

	disk, err := lab.AddDisk(ctx, from, 10<<30)
	require.NoError(t, err)
	patch(add(from, disk))
	osds("4/4")
	id := strings.TrimSpace(inCeph(t, "ceph osd ls-tree "+from+" | sort -n | tail -n 1"))

	node, err := lab.Get(from)
	require.NoError(t, err)
	require.NoError(t, node.Kill(ctx))
	moved, err := lab.MoveDisk(ctx, disk, to)
	require.NoError(t, err)
	require.NoError(t, node.Start(ctx))
	patch(remove(from) + "," + add(to, moved))
	require.NoError(t, kubectl.Until(ctx, "osd."+id+" to run on "+to, func() (bool, string) {
		seen := inCeph(t, "ceph osd tree up")
		there := slices.Contains(strings.Fields(inCeph(t, "ceph osd ls-tree "+to)), id)
		return there && strings.Contains(seen, "osd."+id+" "), seen
	}))
	osds("4/4")
	patch(remove(to))
	osds("3/3")
	w.endVerb(t, "osd_move", "osd.%s went from %s to %s, and left", id, from, to)
}

// replacesADisk has a disk die, sees it named, and has a new one take its OSD's ID and place,
// while every acknowledged write is recorded. There are as many nodes as replicas, so that Ceph
// alone never calls the dead OSD safe to destroy.
func replacesADisk(t *testing.T) {
	ctx := bounded(t)
	const cluster = "storagecluster/" + story.Cluster
	field := func(path, want string) {
		t.Helper()
		require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, path, want))
	}
	of := func(what string) string { return strings.TrimSpace(inCeph(t, what)) }
	w := startWriter(t, "replaced")
	id := of("ceph osd ls-tree node2")
	place := of("ceph osd tree | grep 'osd." + id + " ' | awk '{print $2, $3}'")
	before := of("ceph osd dump | grep '^osd." + id + " ' | awk '{print $NF}'")
	added, err := lab.AddDisk(ctx, "node2", 10<<30)
	require.NoError(t, err)
	name := added[strings.LastIndex(added, "/")+1:]

	failed := time.Now()
	require.NoError(t, lab.FailDisk(ctx, "node2/disk1"))
	field("{.status.blocker.reason}", "DiskFailed")
	took := time.Since(failed).Round(time.Second)
	message, err := kubectl.Get(ctx, kubectl.Namespace, cluster, "{.status.blocker.message}")
	require.NoError(t, err)
	require.Contains(t, message, "osd."+id+" (lab-node2-disk1 on node node2) is down: ")
	t.Logf("after %s: %s", took, message)

	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=json", "-p",
		`[{"op":"test","path":"/spec/storage/nodes/1/devices/0/name","value":"lab-node2-disk1"},{"op":"replace","path":"/spec/storage/nodes/1/devices/0","value":{"name":"`+name+`","replaces":"lab-node2-disk1"}}]`)
	require.NoError(t, err)
	loseTheOperator(t)
	require.NoError(t, kubectl.Until(ctx, "the new OSD to have all data again", func() (bool, string) {
		pgs := of("ceph pg stat")
		dump := of("ceph osd dump | grep '^osd." + id + " '")
		states, _, _ := strings.Cut(pgs, ";")
		return strings.Contains(dump, " up ") && !strings.Contains(dump, before) && strings.HasSuffix(states, " active+clean") && strings.Count(states, "active") == 1, pgs + " " + dump
	}))
	field("{.status.osds.summary}", "3/3")
	require.NoError(t, story.UntilReady(ctx, cluster))
	w.endVerb(t, "osd_replace", "osd.%s has a new disk", id)

	require.Equal(t, id, of("ceph osd ls-tree node2"), "the ID is the same")
	require.Equal(t, place, of("ceph osd tree | grep 'osd."+id+" ' | awk '{print $2, $3}'"), "class and weight are the same")
	require.Len(t, strings.Fields(of("ceph osd ls")), 3)
}
