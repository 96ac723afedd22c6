package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// confirmsDestruction tells the cluster, whose deletion waits, that its data is to
// be destroyed: first without the confirmation, which is refused for another name.
func confirmsDestruction(t *testing.T) {
	ctx := bounded(t)
	patch := func(deletion string) error {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p", `{"spec":{"deletion":`+deletion+`}}`)
		return err
	}
	require.ErrorContains(t, patch(`{"policy":"Destroy","confirmation":"yes-destroy-all-data-of-another"}`), "spec.deletion.confirmation")
	require.NoError(t, patch(`{"policy":"Destroy","confirmation":"yes-destroy-all-data-of-`+story.Cluster+`"}`))
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.blocker.reason}", "InUse"))
}

// destroysACluster sees that the cluster, which the part before has deleted, left
// nothing, and has a new one take the same disks at once.
func destroysACluster(t *testing.T) {
	ctx := bounded(t)
	left, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "deployments,services,secrets,configmaps,jobs,pods", "-l", "cairn.storage/cluster="+story.Cluster,
		"-o", `jsonpath={range .items[?(@.kind!="Job")]}{.kind}/{.metadata.name} {end}`)
	require.NoError(t, err)
	for _, object := range strings.Fields(left) {
		require.Contains(t, object, "Pod/"+story.Cluster+"-wipe-", "what the garbage collector has not got to yet")
	}
	require.NoError(t, lab.RenewDisk(ctx, "node2/disk1"), "it failed in an earlier part")
	nodes, err := lab.Nodes()
	require.NoError(t, err)
	for _, node := range nodes {
		out, err := node.Exec(ctx, "sh", "-c", "ls -d /var/lib/cairn/"+kubectl.Namespace+"/"+story.Cluster+" 2>/dev/null; true")
		require.NoError(t, err)
		require.Empty(t, out, "mon stores on "+node.Name)
		const usable = `{range .status.devices[?(@.usable==true)]}{.id} {end}`
		require.NoError(t, kubectl.Until(ctx, "the disks of "+node.Name+" to be usable", func() (bool, string) {
			ids, err := kubectl.Get(ctx, "", "nodestorage/"+node.Name, usable)
			return err == nil && strings.Contains(ids, "lab-"+node.Name+"-disk1"), ids
		}))
	}
	foreign, err := kubectl.Get(ctx, "", "nodestorage/node3", `{range .status.devices[?(@.usable==false)]}{.reason} {end}`)
	require.NoError(t, err)
	for _, reason := range []string{"HasFilesystem", "HasPartitionTable", "HasOSD", "HasData"} {
		require.Contains(t, foreign, reason, "what the cluster never had is as it was")
	}
	theStory("StorageCluster: 3 mons, 2 mgrs, 3 OSDs", "BlockPool and its StorageClass")(t)
}

// adoptsACluster deletes the cluster with Retain, and has one of the same name take
// its data up again.
func adoptsACluster(t *testing.T) {
	ctx := bounded(t)
	before := fsid(t)
	osds := inCeph(t, "ceph osd dump -f json | grep -o '\"uuid\":\"[^\"]*\"' | sort")
	inCeph(t, "ceph osd pool create kept 8 && echo precious > /tmp/precious && rados -p kept put object /tmp/precious")
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "blockpool", story.Pool, "--timeout=60s")
	require.NoError(t, err)
	remove(t, story.Cluster)
	theStory("StorageCluster: 3 mons, 2 mgrs, 3 OSDs", "BlockPool and its StorageClass")(t)
	require.Equal(t, before, fsid(t))
	require.Equal(t, osds, inCeph(t, "ceph osd dump -f json | grep -o '\"uuid\":\"[^\"]*\"' | sort"))
	require.Equal(t, "precious", strings.TrimSpace(inCeph(t, "rados -p kept get object -")))
}
