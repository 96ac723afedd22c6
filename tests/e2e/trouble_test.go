package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// namesTroubles cuts a node off, deletes the cluster's keys, kills a mon and has it hang. Each is
// named, and heals when it is mended, while every acknowledged write is recorded.
func namesTroubles(t *testing.T) {
	const object = "storagecluster/" + story.Cluster
	w := startWriter(t, "troubled")
	name := others(t, w.node)[0]

	node, err := lab.Get(name)
	require.NoError(t, err)
	require.NoError(t, node.Cut(bounded(t)))
	t.Cleanup(func() { require.NoError(t, node.Heal(context.WithoutCancel(t.Context()))) })
	untilBlocked(t, "NodeLost ", "node "+name)
	require.NoError(t, node.Heal(bounded(t)))
	require.NoError(t, story.UntilReady(bounded(t), object))

	secret := "secret/" + story.Cluster + "-keys"
	keys := copyOf(t, secret)
	_, err = kubectl.Run(bounded(t), "-n", kubectl.Namespace, "delete", secret)
	require.NoError(t, err)
	untilBlocked(t, "KeysMissing ", story.Cluster+"-keys")
	_, err = kubectl.RunWith(bounded(t), keys, "create", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(bounded(t), object))

	require.NoError(t, story.KillOnNode(bounded(t), name, "^ceph-mon"))
	require.NoError(t, kubectl.UntilField(bounded(t), kubectl.Namespace, object, "{.status.mons.summary}", "3/3"))
	require.NoError(t, story.UntilReady(bounded(t), object))

	hung := "kill -%s $(pgrep -f '^ceph-mon')"
	require.NoError(t, kubectl.Until(bounded(t), "a mon to run on "+name+", to hang", func() (bool, string) {
		out, err := node.Exec(bounded(t), "sh", "-ec", fmt.Sprintf(hung, "STOP"))
		return err == nil, fmt.Sprint(out, err)
	}))
	t.Cleanup(func() { _, _ = node.Exec(context.WithoutCancel(t.Context()), "sh", "-c", fmt.Sprintf(hung, "CONT")) })
	untilBlocked(t, "NodeLost ", "node "+name, "mon ")
	_, err = node.Exec(bounded(t), "sh", "-ec", fmt.Sprintf(hung, "CONT"))
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(bounded(t), object))
	w.endVerb(t, "node_cut_off", "%s was cut off and came back, the keys were deleted and put back, a mon was killed and hung", name)
}

// copyOf is an object as a person would keep it to create it again.
func copyOf(t *testing.T, object string) string {
	out, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", object, "-o", "json")
	require.NoError(t, err)
	var kept unstructured.Unstructured
	require.NoError(t, json.Unmarshal([]byte(out), &kept))
	kept.SetResourceVersion("")
	kept.SetUID("")
	kept.SetManagedFields(nil)
	again, err := json.Marshal(&kept)
	require.NoError(t, err)
	return string(again)
}
