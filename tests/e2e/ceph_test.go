package e2e

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// inCeph runs a shell command beside a mon, where Ceph's own programs are. It is
// how the tests see what the driver left in a pool; nothing of Cairn does this.
func inCeph(t *testing.T, command string) string {
	t.Helper()
	return inCephOf(t, story.Cluster, command)
}

func inCephOf(t *testing.T, cluster, command string) string {
	t.Helper()
	ctx := bounded(t)
	mon, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "--field-selector=status.phase=Running", "-l", "app.kubernetes.io/component=mon,cairn.storage/cluster="+cluster, "-o", "jsonpath={.items[0].metadata.name}")
	require.NoError(t, err)
	out, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "exec", mon, "--", "env", "CEPH_ARGS=--id admin --keyring /run/bootstrap/keyring", "bash", "-ec", command)
	require.NoError(t, err)
	return out
}

// directories are the objects that RBD keeps in a pool without any image.
var directories = []string{"rbd_children", "rbd_directory", "rbd_info", "rbd_trash", "rbd_trash_purge_schedule", "rbd_mirroring", "rbd_group_directory"}

// leftIn lists what is in a pool beside RBD's own directories: the objects of
// images, hidden or not, of the trash and of groups, and what directories list.
func leftIn(t *testing.T, pool string) []string {
	var left []string
	for line := range strings.Lines(inCeph(t, "rados -p "+pool+" ls --all")) {
		if fields := strings.Fields(line); len(fields) > 0 && !slices.Contains(directories, fields[len(fields)-1]) {
			left = append(left, strings.Join(fields, "/"))
		}
	}
	for _, directory := range []string{"rbd_directory", "rbd_trash", "rbd_children", "rbd_group_directory"} {
		for key := range strings.Lines(inCeph(t, "rados -p "+pool+" listomapkeys "+directory+" 2>/dev/null || true")) {
			left = append(left, directory+": "+strings.TrimSpace(key))
		}
	}
	return left
}

// nothingLeftIn waits until the purge has left nothing in a pool.
func nothingLeftIn(t *testing.T, pool string) {
	t.Helper()
	require.NoError(t, kubectl.Until(bounded(t), "nothing to be left in pool "+pool, func() (bool, string) {
		left := leftIn(t, pool)
		return len(left) == 0, strings.Join(left, " ")
	}))
}
