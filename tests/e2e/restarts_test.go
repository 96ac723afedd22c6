package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
	"github.com/cairn-storage/cairn/tests/verifier"
)

// rounds of kills.
const rounds = 3

// process is one of the driver's on a node: its pod, and how it is found.
type process struct{ pod, pattern string }

var (
	plugin     = process{"node", "^cairn-csi node"}
	keeper     = process{"keeper", "^cairn-keeper hold"}
	datapath   = process{"attach", "^cairn-csi attach"}
	supervisor = process{"attach", "^cairn-keeper run"} // of the data path
)

// killsUnderIO kills the data path under a volume, the keeper, the node plugin,
// the controller and the operator, each several times, and the data path's
// supervisor, while every acknowledged write is recorded.
func killsUnderIO(t *testing.T) {
	w := startWriter(t, "killed")
	kills := map[string]int{}
	for range rounds {
		for _, p := range []process{plugin, keeper, datapath} {
			w.kill(t, p)
			kills[p.pattern]++
			for _, elsewhere := range []string{"^cairn-csi controller", "^cairn-operator"} {
				kills[elsewhere] += killEverywhere(t, elsewhere)
			}
		}
	}
	w.kill(t, supervisor)
	require.NotZero(t, kills["^cairn-csi controller"])
	require.NotZero(t, kills["^cairn-operator"])
	w.endVerb(t, "driver_killed", "kills %v", kills)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
}

// updateUnderIO replaces the pods of the node plugin and of the data path as an
// upgrade does.
func updateUnderIO(t *testing.T) {
	ctx := bounded(t)
	w := startWriter(t, "updated")
	for _, workload := range []string{"daemonset/cairn-csi-attach", "daemonset/cairn-csi-node"} {
		before := w.uid(t, workload)
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "restart", workload)
		require.NoError(t, err)
		_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "status", workload, "--timeout=3m")
		require.NoError(t, err)
		require.NotEqual(t, before, w.uid(t, workload), "%s on %s was replaced", workload, w.node)
	}
	w.endVerb(t, "driver_update", "node plugin and data path replaced")
}

// writer is a verifier that writes until it is told to end.
type writer struct {
	name, node string
	wait       func() *verifier.Result
}

func startWriter(t *testing.T, name string) *writer { return startWriterOn(t, name, story.Pool) }

// startWriterOn starts one on a volume of a StorageClass.
func startWriterOn(t *testing.T, name, class string) *writer {
	w := &writer{name: name, wait: run(t, name, class, "Filesystem", "1h")}
	var err error
	w.node, err = kubectl.Get(bounded(t), namespace, "pod/"+name, "{.spec.nodeName}")
	require.NoError(t, err)
	return w
}

// end has the writer read back, and requires that nothing was lost and its pod
// never restarted.
func (w *writer) end(t *testing.T) *verifier.Result {
	restarts, err := kubectl.Get(bounded(t), namespace, "pod/"+w.name, "{.status.phase} {.status.containerStatuses[0].restartCount}")
	require.NoError(t, err)
	require.Equal(t, "Running 0", restarts)
	node, err := lab.Get(w.node)
	require.NoError(t, err)
	_, err = node.Exec(bounded(t), "pkill", "-TERM", "-f", "^/verifier --path")
	require.NoError(t, err)
	result := w.wait()
	require.True(t, result.Sound(), "%+v", result)
	return result
}

// kill kills a process of the driver on the writer's node, and waits until the
// next one serves.
func (w *writer) kill(t *testing.T, p process) {
	before := w.restarts(t, p)
	require.NoError(t, story.KillOnNode(bounded(t), w.node, p.pattern))
	require.NoError(t, kubectl.Until(bounded(t), p.pattern+" on "+w.node+" to serve again", func() (bool, string) {
		now := w.restarts(t, p)
		return now != before && strings.HasSuffix(now, " true"), now
	}))
	// A new keeper has all it should have when the data path says so.
	require.NoError(t, kubectl.Until(bounded(t), "the data path on "+w.node+" to be ready", func() (bool, string) {
		answer := w.ask(t, "/readyz")
		return strings.Contains(answer, " 200 "), answer
	}))
}

// restarts is how often a process of the driver has restarted on the writer's
// node, and whether it is ready: "2 true". The data path is restarted in its container.
func (w *writer) restarts(t *testing.T, p process) string {
	seen := w.ofPod(t, p.pod, "{.items[0].status.containerStatuses[0].restartCount} {.items[0].status.containerStatuses[0].ready}")
	if p != datapath {
		return seen
	}
	answer := w.ask(t, "/metrics")
	_, after, found := strings.Cut(answer, "\ncairn_csi_attach_restarts_total ")
	if !found {
		return "no answer: " + answer
	}
	count, _, _ := strings.Cut(after, "\n")
	return count + " in container " + seen
}

func (w *writer) uid(t *testing.T, workload string) string {
	return w.ofPod(t, strings.TrimPrefix(workload, "daemonset/cairn-csi-"), "{.items[0].metadata.uid}")
}

func (w *writer) ofPod(t *testing.T, name, jsonpath string) string {
	seen, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", "pods", "-l", "app.kubernetes.io/instance=cairn-csi-"+name,
		"--field-selector=spec.nodeName="+w.node, "-o", "jsonpath="+jsonpath)
	require.NoError(t, err)
	return seen
}

// ask asks the data path on the writer's node itself: the kubelet asks only
// every few seconds.
func (w *writer) ask(t *testing.T, path string) string {
	node, err := lab.Get(w.node)
	require.NoError(t, err)
	answer, err := node.Exec(bounded(t), "bash", "-c", `exec 3<>/dev/tcp/127.0.0.1/9812 && printf 'GET '"$0"' HTTP/1.0\r\n\r\n' >&3 && cat <&3`, path)
	if err != nil {
		return err.Error()
	}
	return answer
}

// killEverywhere kills processes wherever they run, and returns how many nodes
// had any.
func killEverywhere(t *testing.T, pattern string) (killed int) {
	nodes, err := lab.Nodes()
	require.NoError(t, err)
	for _, node := range nodes {
		if story.KillOnNode(bounded(t), node.Name, pattern) == nil {
			killed++
		}
	}
	return killed
}
