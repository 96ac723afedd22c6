package e2e

import (
	"context"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// drainsANode drains a node that has a mon and an OSD, sees a second drain be
// refused with the reason, and takes the node back, while every acknowledged write
// is recorded.
func drainsANode(t *testing.T) {
	w := startWriter(t, "drainedunder")
	nodes := others(t, w.node)
	first, second := nodes[0], nodes[1]
	require.NoError(t, kubectl.UntilField(bounded(t), kubectl.Namespace, "storagecluster/"+story.Cluster, `{.status.conditions[?(@.type=="Drainable")].message}`, "one host may be drained at a time"))

	began, unnoticed := time.Now(), givenUp(t)
	require.NoError(t, drain(bounded(t), first, "3m"))
	t.Logf("%s drained in %s", first, time.Since(began).Round(time.Second))
	require.Empty(t, daemonsOn(t, first))
	require.NoError(t, kubectl.Until(bounded(t), "Ceph to wait for the OSDs of "+first, func() (bool, string) {
		seen := inCeph(t, "ceph osd dump -f json")
		return strings.Contains(seen, `"crush_node_flags":{"`+first+`":["noout"]}`), last(seen, 300)
	}))

	require.Equal(t, unnoticed, givenUp(t), "an OSD's goodbye went to the mon of its node, which ended with it")

	refused := drain(bounded(t), second, "10s")
	require.ErrorContains(t, refused, "disruption budget")
	blocker, err := kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.blocker.reason} {.status.blocker.message}")
	require.NoError(t, err)
	require.Regexp(t, "^DrainBlocked .*node "+second+": .*osd\\.[0-9]+ .*stay.* until .*of node "+first+" are back", blocker)
	require.Contains(t, strings.Join(daemonsOn(t, second), " "), "osd-")
	t.Log(blocker)

	for _, node := range []string{second, first} {
		_, err := kubectl.Run(bounded(t), "uncordon", node)
		require.NoError(t, err)
	}
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	require.NoError(t, kubectl.UntilField(bounded(t), kubectl.Namespace, "storagecluster/"+story.Cluster, `{.status.conditions[?(@.type=="Drainable")].status} {.status.drained}`, "True "))
	require.NotContains(t, inCeph(t, "ceph osd dump -f json"), `"noout"]`)
	w.endVerb(t, "node_drain", "%s drained and back", first)
}

// noticesASilentNode freezes a node that has a mon and an OSD, sees it named, and
// another node get its mon.
func noticesASilentNode(t *testing.T) {
	const object = "storagecluster/" + story.Cluster
	patch := func(mon string) {
		_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", object, "--type=merge", "-p", `{"spec":{"mon":`+mon+`}}`)
		require.NoError(t, err)
	}
	w := startWriter(t, "silenced")
	name := others(t, w.node)[0]
	node, err := lab.Get(name)
	require.NoError(t, err)
	patch(`{"failoverAfter":"30s","allowSharedNode":true}`)
	require.NoError(t, story.UntilReady(bounded(t), object))
	began := time.Now()
	require.NoError(t, node.Freeze(bounded(t)))
	t.Cleanup(func() { require.NoError(t, node.Thaw(context.WithoutCancel(t.Context()))) })
	named := untilBlocked(t, "NodeLost ", "node "+name)
	require.NoError(t, kubectl.UntilField(bounded(t), kubectl.Namespace, object, "{.status.mons.summary}", "3/3"))
	took := time.Since(began)
	require.NoError(t, node.Thaw(bounded(t)))
	require.NoError(t, story.UntilReady(bounded(t), object))
	patch(`{"failoverAfter":null,"allowSharedNode":null}`)
	require.NoError(t, kubectl.Until(bounded(t), "each mon to have a node of its own again", func() (bool, string) {
		nodes, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", "pods", "-l", "cairn.storage/cluster="+story.Cluster+",app.kubernetes.io/component=mon",
			"--field-selector=status.phase=Running", "-o", "jsonpath={.items[*].spec.nodeName}")
		own := map[string]bool{}
		for _, node := range strings.Fields(nodes) {
			own[node] = true
		}
		return err == nil && len(own) == 3, nodes
	}))
	require.NoError(t, kubectl.UntilField(bounded(t), kubectl.Namespace, object, "{.status.mons.summary}", "3/3"))
	require.NoError(t, story.UntilReady(bounded(t), object))
	note(t, "mon_failover", map[string]any{"seconds": took.Seconds(), "after": 30})
	w.endVerb(t, "node_lost", "%s was named %s after it froze, and its mon was on another node after %s", name, named.Round(time.Second), took.Round(time.Second))
}

// others are the nodes beside one, those without the operator's leader first.
func others(t *testing.T, node string) []string {
	leader, err := kubectl.Get(bounded(t), kubectl.Namespace, "lease/cairn-operator", "{.spec.holderIdentity}")
	require.NoError(t, err)
	pod, _, _ := strings.Cut(leader, "_")
	on, err := kubectl.Get(bounded(t), kubectl.Namespace, "pod/"+pod, "{.spec.nodeName}")
	require.NoError(t, err)
	nodes, err := lab.Nodes()
	require.NoError(t, err)
	var front, back []string
	for _, other := range nodes {
		switch other.Name {
		case node:
		case on:
			back = append(back, other.Name)
		default:
			front = append(front, other.Name)
		}
	}
	require.NotEmpty(t, front)
	return append(front, back...)
}

// givenUp are the lines of Ceph's log about OSDs that were not heard of any more.
func givenUp(t *testing.T) []string {
	var lines []string
	for line := range strings.Lines(inCeph(t, "ceph log last 10000 info cluster")) {
		if strings.Contains(line, " >= grace ") {
			lines = append(lines, line)
		}
	}
	return lines
}

// drain drains a node of the cluster's daemons.
func drain(ctx context.Context, node, timeout string) error {
	_, err := kubectl.Run(ctx, "drain", node, "--pod-selector=cairn.storage/cluster="+story.Cluster, "--ignore-daemonsets", "--delete-emptydir-data", "--timeout="+timeout)
	return err
}

// daemonsOn are the cluster's daemons that run on a node.
func daemonsOn(t *testing.T, node string) []string {
	out, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", "pods", "-l", "cairn.storage/cluster="+story.Cluster,
		"--field-selector=status.phase=Running,spec.nodeName="+node, "-o", `jsonpath={range .items[*]}{.metadata.labels.app\.kubernetes\.io/component}-{.metadata.labels.app\.kubernetes\.io/instance} {end}`)
	require.NoError(t, err)
	return strings.Fields(out)
}
