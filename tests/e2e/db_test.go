package e2e

import (
	"fmt"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// givesAnOSDADatabase adds a disk with a DB device, sees that the OSD uses it, and takes the
// disk out again, while every acknowledged write is recorded. The DB device is free then.
func givesAnOSDADatabase(t *testing.T) {
	ctx := bounded(t)
	const cluster = "storagecluster/" + story.Cluster
	w := startWriter(t, "database")
	node := others(t, w.node)[0]
	at := int(node[len(node)-1] - '1')
	field := func(path, want string) {
		t.Helper()
		require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, path, want))
	}
	device := func(name, path, want string) {
		t.Helper()
		require.NoError(t, kubectl.UntilField(ctx, "", "nodestorage/"+node, fmt.Sprintf(`{range .status.devices[?(@.id=="%s")]}%s{end}`, name, path), want))
	}
	patch := func(operations string) {
		t.Helper()
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=json", "-p", "["+operations+"]")
		require.NoError(t, err)
	}
	var names []string
	for _, size := range []int64{10 << 30, 2 << 30} {
		path, err := lab.AddDisk(ctx, node, size)
		require.NoError(t, err)
		names = append(names, strings.TrimPrefix(path, "/dev/disk/by-id/"))
	}
	disk, fast := names[0], names[1]
	had, err := kubectl.Get(ctx, kubectl.Namespace, cluster, fmt.Sprintf("{.status.osds.desired} {.spec.storage.nodes[%d].devices[*].name}", at))
	require.NoError(t, err)
	fields := strings.Fields(had)
	count, err := strconv.Atoi(fields[0])
	require.NoError(t, err)
	summary := func(n int) string { return fmt.Sprintf("%d/%d", n, n) }
	devices := fmt.Sprintf("/spec/storage/nodes/%d/devices/", at)
	added := devices + strconv.Itoa(len(fields)-1)
	before := strings.Fields(inCeph(t, "ceph osd ls"))

	patch(fmt.Sprintf(`{"op":"add","path":"%s-","value":{"name":"%s","dbDevice":"%s"}}`, devices, disk, fast))
	field("{.status.osds.summary}", summary(count+1))
	require.NoError(t, story.UntilReady(ctx, cluster))
	id := ""
	for _, one := range strings.Fields(inCeph(t, "ceph osd ls")) {
		if !strings.Contains(" "+strings.Join(before, " ")+" ", " "+one+" ") {
			id = one
		}
	}
	require.Contains(t, inCeph(t, "ceph osd metadata "+id), `"bluefs_dedicated_db": "1"`)
	uuid := strings.TrimSpace(inCeph(t, "ceph osd dump | grep '^osd."+id+" ' | awk '{print $NF}'"))
	device(fast, "{.usable} {.reason} {.dbOf}", "false HasOSD "+uuid)

	patch(fmt.Sprintf(`{"op":"test","path":"%[1]s/name","value":"%s"},{"op":"remove","path":"%[1]s/dbDevice"}`, added, disk))
	field("{.status.blocker.reason}", "DBDeviceChanged")
	patch(fmt.Sprintf(`{"op":"add","path":"%s/dbDevice","value":"%s"}`, added, fast))
	field("{.status.blocker.reason}", "")

	patch(fmt.Sprintf(`{"op":"test","path":"%[1]s/name","value":"%s"},{"op":"remove","path":"%[1]s"}`, added, disk))
	loseTheOperator(t)
	device(fast, "{.usable}", "true")
	field("{.status.osds.summary}", summary(count))
	require.NoError(t, story.UntilReady(ctx, cluster))
	w.endVerb(t, "osd_database", "osd.%s with a DB device came and left", id)

	require.Equal(t, before, strings.Fields(inCeph(t, "ceph osd ls")))
	device(disk, "{.usable} {.reason}", "false HasOSD")
	jobs, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "jobs", "-o", "name")
	require.NoError(t, err)
	require.NotContains(t, jobs, "free-db")
}
