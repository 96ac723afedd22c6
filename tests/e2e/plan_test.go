package e2e

import (
	"os"
	"os/exec"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// showsThePlan asks what taking out a disk would do, and sees that nothing was done.
func showsThePlan(t *testing.T) {
	ctx := bounded(t)
	object := "storagecluster/" + story.Cluster
	before, err := kubectl.Get(ctx, kubectl.Namespace, object, "{.metadata.generation} {.status.osds.summary}")
	require.NoError(t, err)
	edited, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", object, "--dry-run=server", "-o", "json",
		"--type=json", "-p", `[{"op":"remove","path":"/spec/storage/nodes/0/devices/1"}]`)
	require.NoError(t, err)

	plugin := exec.CommandContext(ctx, "../../bin/kubectl-cairn", "plan", "-f", "-")
	plugin.Env = append(os.Environ(), "KUBECONFIG="+lab.Kubeconfig(), "PATH="+lab.KubernetesDir()+":"+os.Getenv("PATH"))
	plugin.Stdin = strings.NewReader(edited)
	out, err := plugin.CombinedOutput()
	require.NoError(t, err, "%s", out)
	t.Logf("%s", out)
	for _, want := range []string{"-drain ", "-stop ", "-purge ", "Destroys:", "Data that moves:"} {
		require.Contains(t, string(out), want)
	}
	require.Regexp(t, `Capacity: +30\.[01] GiB raw, now 40\.[01] GiB`, string(out))
	for _, unwanted := range []string{"cannot be said", "It stops at", "It is blocked"} {
		require.NotContains(t, string(out), unwanted)
	}
	after, err := kubectl.Get(ctx, kubectl.Namespace, object, "{.metadata.generation} {.status.osds.summary}")
	require.NoError(t, err)
	require.Equal(t, before, after)
}
