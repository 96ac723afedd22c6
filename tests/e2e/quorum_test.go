package e2e

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// monOnNode is a mon and the node that has its store.
type monOnNode struct{ name, node string }

func monsOnNodes(ctx context.Context, t *testing.T) (mons []monOnNode) {
	seen, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "services", "-l", "app.kubernetes.io/component=mon,cairn.storage/cluster="+story.Cluster, "-o",
		`jsonpath={range .items[*]}{.metadata.labels.app\.kubernetes\.io/instance}={.metadata.annotations.cairn\.storage/node} {end}`)
	require.NoError(t, err)
	for _, one := range strings.Fields(seen) {
		name, node, _ := strings.Cut(one, "=")
		mons = append(mons, monOnNode{name, node})
	}
	return mons
}

// rebuildsTheQuorum takes two of three mons away for ever, with their stores, and has the
// quorum rebuilt from the third, while every acknowledged write is recorded.
func rebuildsTheQuorum(t *testing.T) {
	ctx := bounded(t)
	w := startWriter(t, "quorum")
	before := monsOnNodes(ctx, t)
	require.Len(t, before, 3)
	from, lost := before[0], before[1:]
	for _, m := range lost {
		loseMon(ctx, t, m)
	}
	for _, m := range lost { // two that began anew would be a majority that knows nothing
		beginsNotAnew(ctx, t, m)
	}
	cluster := "storagecluster/" + story.Cluster
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, "{.status.blocker.reason}", "QuorumLost"))
	says, err := kubectl.Get(ctx, kubectl.Namespace, cluster, "{.status.blocker.message}")
	require.NoError(t, err)
	t.Log(says)
	since, err := kubectl.Get(ctx, kubectl.Namespace, cluster, `{.status.conditions[?(@.type=="Quorum")].lastTransitionTime}`)
	require.NoError(t, err)
	asked := fmt.Sprintf(`{from: %s, lostSince: %q, confirmation: yes-rebuild-the-quorum-of-%s-from-mon-%s}`, from.name, since, story.Cluster, from.name)
	require.Contains(t, says, asked, "the way out is named as it has to be written")
	patchRecovery(ctx, t, fmt.Sprintf(`{"from":%q,"lostSince":%q,"confirmation":"yes-rebuild-the-quorum-of-%s-from-mon-%s"}`, from.name, since, story.Cluster, from.name))
	require.NoError(t, kubectl.Until(ctx, "the quorum to be rebuilt", func() (bool, string) {
		seen, err := kubectl.Get(ctx, kubectl.Namespace, cluster, `{.status.conditions[?(@.type=="Quorum")].status} {.status.monRecovery.finished} {.status.blocker.message}`)
		return err == nil && strings.HasPrefix(seen, "True 2"), seen
	}))
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, cluster, "{.status.mons.summary}", "3/3"))
	require.NoError(t, story.UntilReady(ctx, cluster))
	for _, m := range monsOnNodes(ctx, t) {
		require.NotContains(t, lost, m)
		require.True(t, m == from || !strings.Contains(lost[0].name+" "+lost[1].name, m.name), "mon %s has a name that was given before", m.name)
	}
	patchRecovery(ctx, t, "null")
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "jobs", "-l", "app.kubernetes.io/component=mon-recovery")
	require.NoError(t, err)
	w.endVerb(t, "quorum_rebuild", "two of three mons lost")
}

// loseMon ends a mon for good: its node takes no pods, and its store is gone.
func loseMon(ctx context.Context, t *testing.T, m monOnNode) {
	_, err := kubectl.Run(ctx, "cordon", m.node)
	require.NoError(t, err)
	t.Cleanup(func() { _, _ = kubectl.Run(context.WithoutCancel(ctx), "uncordon", m.node) })
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "pod", "-l", podOf(m), "--wait")
	require.NoError(t, err)
	node, err := lab.Get(m.node)
	require.NoError(t, err)
	_, err = node.Exec(ctx, "rm", "-r", "/var/lib/cairn/"+kubectl.Namespace+"/"+story.Cluster+"/mon-"+m.name)
	require.NoError(t, err)
}

func podOf(m monOnNode) string {
	return "app.kubernetes.io/component=mon,app.kubernetes.io/instance=" + m.name + ",cairn.storage/cluster=" + story.Cluster
}

// beginsNotAnew has a mon whose store is gone start, and refuse to run.
func beginsNotAnew(ctx context.Context, t *testing.T, m monOnNode) {
	_, err := kubectl.Run(ctx, "uncordon", m.node)
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, "mon "+m.name+" to refuse to run without its store", func() (bool, string) {
		seen, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pod", "-l", podOf(m), "-o",
			"jsonpath={.items[*].status.containerStatuses[*].state.terminated.message}{.items[*].status.containerStatuses[*].lastState.terminated.message}")
		return err == nil && strings.Contains(seen, "no store of mon "+m.name), seen
	}))
}

func patchRecovery(ctx context.Context, t *testing.T, recovery string) {
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p", `{"spec":{"mon":{"recovery":`+recovery+`}}}`)
	require.NoError(t, err)
}
