package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/lab"
)

const diskSize = 2 << 30

// refusesDevices plants a filesystem, a partition table, a foreign label and
// bare data on four disks, asks for all of them, and sees each refused and
// unchanged.
func refusesDevices(t *testing.T) {
	ctx := bounded(t)
	node, err := lab.Get("node3")
	require.NoError(t, err)
	plants := []struct{ reason, plant string }{
		{"HasFilesystem", "mkfs.xfs -q -f $D"},
		{"HasPartitionTable", "echo 'label: gpt' | sfdisk -q $D"},
		{"HasOSD", "(echo 'bluestore block device'; echo 11111111-2222-3333-4444-555555555555; head -c 4000 /dev/urandom) | dd of=$D conv=notrunc status=none"},
		{"HasData", "head -c 65536 /dev/urandom | dd of=$D bs=4k seek=16 conv=notrunc status=none"},
	}
	var devices []string
	sums := map[string]string{}
	sum := func(path string) string {
		out, err := node.Exec(ctx, "sh", "-c", "head -c 4194304 "+path+" | sha256sum")
		require.NoError(t, err)
		return out
	}
	ids := map[string]string{}
	for _, p := range plants {
		path, err := lab.AddDisk(ctx, "node3", diskSize)
		require.NoError(t, err)
		_, err = node.Exec(ctx, "bash", "-ec", "D="+path+"; "+p.plant+"; sync")
		require.NoError(t, err)
		id := path[strings.LastIndex(path, "/")+1:]
		ids[p.reason], sums[path] = id, sum(path)
		devices = append(devices, fmt.Sprintf("{name: %s}", id))
	}
	for _, p := range plants {
		where := fmt.Sprintf(`{range .status.devices[?(@.id=="%s")]}{.usable} {.reason}{end}`, ids[p.reason])
		require.NoError(t, kubectl.UntilField(ctx, "", "nodestorage/node3", where, "false "+p.reason))
	}
	_, err = kubectl.RunWith(ctx, cluster("refused", "node3", strings.Join(devices, ", ")), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/refused", "{.status.blocker.reason}", "DeviceRefused"))
	message, err := kubectl.Get(ctx, kubectl.Namespace, "storagecluster/refused", "{.status.blocker.message}")
	require.NoError(t, err)
	for _, p := range plants {
		require.Contains(t, message, fmt.Sprintf("device %q on node node3 is refused (%s)", ids[p.reason], p.reason))
	}
	osds, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "-l", "app.kubernetes.io/component=osd", "-o", "name")
	require.NoError(t, err)
	require.Empty(t, osds, "no OSD was made")
	for path, before := range sums {
		require.Equal(t, before, sum(path), "%s was written to", path)
	}
	refusesToEncrypt(t, node, "refused")
	remove(t, "refused")
}

// refusesToEncrypt asks for an encrypted OSD on a blank disk, on a node whose kernel has no
// dm-crypt, and sees that none is made, and that it is said why.
func refusesToEncrypt(t *testing.T, node *lab.Node, cluster string) {
	ctx := bounded(t)
	can, err := kubectl.Get(ctx, "", "nodestorage/node3", "{.status.encryption.available} {.status.encryption.message}")
	require.NoError(t, err)
	t.Logf("the kernel can encrypt devices: %s", can)
	if strings.HasPrefix(can, "true") {
		require.Equal(t, "true", strings.TrimSpace(can), "where it can nothing is said against it; tests/krbd goes on from there")
		return
	}
	require.Contains(t, can, "has no dm-crypt")
	path, err := lab.AddDisk(ctx, "node3", diskSize)
	require.NoError(t, err)
	id := path[strings.LastIndex(path, "/")+1:]
	device := fmt.Sprintf(`{range .status.devices[?(@.id=="%s")]}{.usable}{end}`, id)
	require.NoError(t, kubectl.UntilField(ctx, "", "nodestorage/node3", device, "true"))
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", cluster, "--type=merge", "-p",
		fmt.Sprintf(`{"spec":{"storage":{"encrypted":true,"nodes":[{"name":"node3","devices":[{"name":%q}]}]}}}`, id))
	require.NoError(t, err)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+cluster, "{.status.blocker.reason}", "EncryptionUnavailable"))
	message, err := kubectl.Get(ctx, kubectl.Namespace, "storagecluster/"+cluster, "{.status.blocker.message}")
	require.NoError(t, err)
	require.Contains(t, message, "node node3 cannot encrypt devices: Linux ")
	require.Contains(t, message, fmt.Sprintf("no OSD is made of device %q there", id))
	usable, err := kubectl.Get(ctx, "", "nodestorage/node3", device)
	require.NoError(t, err)
	require.Equal(t, "true", usable, "the disk is as it was")
	osds, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods,secrets", "-l", "app.kubernetes.io/component=osd", "-o", "name")
	require.NoError(t, err)
	require.Empty(t, osds, "no OSD was made, nor begun")
	_, err = node.Exec(ctx, "sh", "-c", "head -c 65536 /dev/urandom | dd of="+path+" conv=notrunc,fsync status=none") // later parts count what is usable
	require.NoError(t, err)
}

// cluster is a StorageCluster of one mon with some devices of one node.
func cluster(name, node, devices string) string {
	return fmt.Sprintf(`
apiVersion: cairn.storage/v1alpha1
kind: StorageCluster
metadata: {name: %s, namespace: %s}
spec:
  mon: {count: 1}
  mgr: {count: 1}
  storage:
    nodes: [{name: %s, devices: [%s]}]
`, name, kubectl.Namespace, node, devices)
}

// remove deletes a StorageCluster and waits until its daemons are gone.
func remove(t *testing.T, name string) {
	ctx := bounded(t)
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "storagecluster", name, "--timeout=60s")
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, "the daemons of "+name+" to be gone", func() (bool, string) {
		pods, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "-l", "cairn.storage/cluster="+name, "-o", "name")
		return err == nil && pods == "", pods
	}))
}

func namesTheMissingDevice(t *testing.T) {
	ctx := bounded(t)
	_, err := kubectl.RunWith(ctx, cluster("missing", "node2", "{name: lab-node2-disk9}"), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/missing", "{.status.blocker.reason}", "DeviceNotFound"))
	described, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "describe", "storagecluster", "missing")
	require.NoError(t, err)
	flat := strings.Join(strings.Fields(described), " ")
	require.Contains(t, flat, `device "lab-node2-disk9" on node node2 does not exist there. The node has: lab-node2-disk1, lab-node2-disk2. Correct spec.storage.nodes[node2].devices, or plug the device in`)
	t.Log(last(described, 2500))
	remove(t, "missing")
}
