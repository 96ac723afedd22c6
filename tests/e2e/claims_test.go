package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// movesAnOSDOnAClaim makes the example's cluster, whose OSDs are on claims of the story's
// pool, and drains the node of one of them, while every acknowledged write to a volume of it
// is recorded: the OSD serves from another node, and is where it was in the CRUSH map.
func movesAnOSDOnAClaim(t *testing.T) {
	const name, pool = "on-claims", "moved"
	object := "storagecluster/" + name
	ctx := bounded(t)
	text, err := story.Example("claims.yaml")
	require.NoError(t, err)
	quick, err := kubectl.RunWith(ctx, text, "patch", "--local", "-f", "-", "--type=merge", "--patch-file=../lab/cluster-config.yaml", "-o", "yaml")
	require.NoError(t, err)
	_, err = kubectl.RunWith(ctx, quick, "apply", "--server-side", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(ctx, object))
	claims := func() string {
		out, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pvc", "-l", "cairn.storage/cluster="+name, "-o", "jsonpath={.items[*].metadata.name}")
		require.NoError(t, err)
		return out
	}
	require.Equal(t, name+"-fast-0 "+name+"-fast-1", claims())

	_, err = kubectl.RunWith(ctx, fmt.Sprintf("{apiVersion: cairn.storage/v1alpha1, kind: BlockPool, metadata: {name: %s, namespace: %s}, spec: {cluster: %s, replicas: 2, storageClass: {}}}",
		pool, kubectl.Namespace, name), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(ctx, "blockpool/"+pool))
	w := startWriterOn(t, "onclaims", pool)

	selector := "cairn.storage/cluster=" + name + ",app.kubernetes.io/component=osd,app.kubernetes.io/instance=0"
	where := func() string {
		node, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "-l", selector, "--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].spec.nodeName}")
		require.NoError(t, err)
		return node
	}
	find := func() string { return inCephOf(t, name, "ceph osd find 0 -f json | grep -o '\"crush_location\".*'") }
	node, place := where(), find()
	require.NotEmpty(t, node)
	require.Contains(t, place, `"host":"`+name+`-fast-`)
	_, err = kubectl.Run(ctx, "drain", node, "--pod-selector="+selector, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout=2m")
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, "osd.0 to run on another node", func() (bool, string) {
		now := where()
		return now != "" && now != node, now
	}))
	_, err = kubectl.Run(ctx, "uncordon", node)
	require.NoError(t, err)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, object, "{.status.osds.summary}", "2/2"))
	require.NoError(t, story.UntilReady(ctx, object))
	require.Equal(t, place, find(), "no data has another place")
	w.endVerb(t, "osd_on_claim", "osd.0 moved from %s to %s", node, where())

	_, err = kubectl.Run(ctx, "-n", namespace, "delete", "pvc", "onclaims", "--timeout=1m")
	require.NoError(t, err)
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "blockpool", pool, "--timeout=1m")
	require.NoError(t, err)
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", object, "--type=merge", "-p", `{"spec":{"deletion":{"policy":"Destroy","confirmation":"yes-destroy-all-data-of-`+name+`"}}}`)
	require.NoError(t, err)
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", object, "--timeout=2m")
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, "the claims to be gone", func() (bool, string) {
		left := claims()
		return strings.TrimSpace(left) == "", left
	}))
}
