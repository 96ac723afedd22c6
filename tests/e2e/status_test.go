package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

func readsWell(t *testing.T) {
	out, err := kubectl.Run(bounded(t), "get", "storagecluster,blockpool,nodestorage", "-A")
	require.NoError(t, err)
	t.Log("\n" + out)
	for _, want := range []string{
		"READY HEALTH MONS OSDS CAPACITY USED DOING AGE", "3/3 4/4 40Gi", "as specified",
		"READY CLUSTER REDUNDANCY DOMAIN STORAGECLASS STORED AVAILABLE DOING AGE", "True main 3 replicas host fast",
		"USABLE OSDS REFUSED ATTACH DEVICES AGE", "lab-node1-disk1 10Gi osd.",
	} {
		require.Contains(t, strings.Join(strings.Fields(out), " "), want)
	}
}

func deletionIsRefused(t *testing.T) {
	ctx := bounded(t)
	for object, want := range map[string]string{
		"storagecluster/main": "not deleted, because it is used by BlockPool fast",
		"blockpool/fast":      "not deleted, because the pool holds",
	} {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", object, "--wait=false")
		require.NoError(t, err)
		const reason = `{.status.conditions[?(@.type=="Ready")].reason}`
		require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, object, reason, "InUse"))
		message, err := kubectl.Get(ctx, kubectl.Namespace, object, `{.status.conditions[?(@.type=="Ready")].message}`)
		require.NoError(t, err)
		require.Contains(t, message, want)
	}
	pods, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "-l", "cairn.storage/cluster=main", "--field-selector=status.phase=Running", "-o", "name")
	require.NoError(t, err)
	require.Len(t, strings.Fields(pods), 8, "3 mons, 2 mgrs and 3 OSDs run on")
}
