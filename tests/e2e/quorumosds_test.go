package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// rebuildsFromOSDs takes the stores of all mons away, and has the quorum rebuilt from
// what the OSDs know, under a volume that is written to all the time.
func rebuildsFromOSDs(t *testing.T) {
	ctx := bounded(t)
	w := startWriter(t, "noquorum")
	before := monsOnNodes(ctx, t)
	require.Len(t, before, 3)
	for _, m := range before {
		node, err := lab.Get(m.node)
		require.NoError(t, err)
		_, err = node.Exec(ctx, "rm", "-r", "/var/lib/cairn/"+kubectl.Namespace+"/"+story.Cluster+"/mon-"+m.name)
		require.NoError(t, err)
	}
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "pod", "-l", "app.kubernetes.io/component=mon,cairn.storage/cluster="+story.Cluster, "--grace-period=1", "--wait")
	require.NoError(t, err)
	cluster := "storagecluster/" + story.Cluster
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, "{.status.blocker.reason}", "QuorumLost"))
	since, err := kubectl.Get(ctx, kubectl.Namespace, cluster, `{.status.conditions[?(@.type=="Quorum")].lastTransitionTime}`)
	require.NoError(t, err)
	patchRecovery(ctx, t, fmt.Sprintf(`{"from":"osds","lostSince":%q,"confirmation":"yes-rebuild-the-quorum-of-%s-from-osds"}`, since, story.Cluster))
	require.NoError(t, kubectl.Until(ctx, "the quorum to be rebuilt from the OSDs", func() (bool, string) {
		seen, err := kubectl.Get(ctx, kubectl.Namespace, cluster, `{.status.conditions[?(@.type=="Quorum")].status} {.status.monRecovery.finished} {.status.blocker.message}`)
		return err == nil && strings.HasPrefix(seen, "True 2"), seen
	}))
	record, err := kubectl.Get(ctx, kubectl.Namespace, cluster, "{.status.monRecovery}")
	require.NoError(t, err)
	t.Log(record)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, "{.status.mons.summary}", "3/3"))
	require.NoError(t, story.UntilReady(ctx, cluster))
	patchRecovery(ctx, t, "null")
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "jobs", "-l", "app.kubernetes.io/component=mon-recovery")
	require.NoError(t, err)
	w.endVerb(t, "quorum_from_osds", "all three mons lost with their stores")
}
