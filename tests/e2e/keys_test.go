package e2e

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// before is where in a mon's pod the keys are kept that there were.
const before = "/run/cairn/keys-before"

// makesKeysAnew has all daemons and the CSI driver get other keys while every acknowledged
// write is recorded. Then Ceph refuses the old ones, and a data path that is killed comes back.
func makesKeysAnew(t *testing.T) {
	w := startWriter(t, "rekeyed")
	refused := []string{"osd.0", "osd.1", "mgr.a", "client.admin", "client.csi-controller", "client.csi-node." + w.node}
	inCeph(t, "umask 077; ceph auth export > "+before)
	for _, entity := range refused {
		require.Equal(t, "let in", login(t, entity))
	}

	began := time.Now()
	_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p",
		`{"spec":{"security":{"cephx":{"daemons":{"keyGeneration":2},"csi":{"keyGeneration":2}}}}}`)
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(bounded(t), "all keys to be of generation 2", func() (bool, string) {
		seen, err := kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.cephx}")
		return err == nil && seen == `{"csi":{"keyGeneration":2},"daemons":{"keyGeneration":2}}`, fmt.Sprint(seen, err)
	}))
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	t.Logf("all keys are made anew after %.0f s", time.Since(began).Seconds())

	for _, entity := range refused {
		require.Equal(t, "refused", login(t, entity), entity)
	}
	_, err = kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p",
		`{"spec":{"security":{"cephx":{"csi":{"keyGeneration":1}}}}}`)
	require.ErrorContains(t, err, "cannot be lowered")
	w.kill(t, datapath)
	w.endVerb(t, "keys", "the keys of all mgrs, OSDs, client.admin and the CSI driver made anew, and the data path killed")

	// The kubelets bring client.admin's new keyring into the pods that run within a minute or two.
	const now = "for n in $(seq 60); do timeout 10 ceph -s >/dev/null 2>&1 && break; sleep 2; done; ceph auth ls 2>/dev/null"
	users := inCeph(t, now)
	require.Contains(t, users, "client.csi-node-g2."+w.node)
	require.NotContains(t, users, "client.csi-node."+w.node)
}

// login tries to enter the cluster with a key that there was.
func login(t *testing.T, entity string) string {
	said := inCeph(t, fmt.Sprintf("env -u CEPH_ARGS timeout 30 ceph --name %s --keyring %s mon stat 2>&1 || true", entity, before))
	switch {
	case strings.Contains(said, "quorum"):
		return "let in"
	case strings.Contains(said, "RADOS permission denied"):
		return "refused"
	}
	return said
}
