package e2e

import (
	"fmt"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// older is a cluster of Reef beside the story's.
const (
	older    = "older"
	reef     = "cairn.storage/ceph:18.2.7"
	tentacle = "cairn.storage/ceph:20.2.4"
)

// upgradesCeph makes a cluster of Reef, and upgrades it to Tentacle by its image,
// while every acknowledged write is recorded. A wrong image comes first.
func upgradesCeph(t *testing.T) {
	makeOlder(t)
	w := startWriterOn(t, "upgraded", older)

	before := daemonPods(t)
	const blocker = "{.status.blocker.reason} {.status.blocker.message}"
	setImage(t, "cairn.storage/ceph:none")
	asked := time.Now()
	var said string
	require.NoError(t, kubectl.Until(bounded(t), "the image to be named as unusable", func() (bool, string) {
		said, _ = kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+older, blocker)
		return strings.HasPrefix(said, "ImageUnusable spec.ceph.image cairn.storage/ceph:none cannot be used"), said
	}))
	t.Logf("a wrong image, after %.0f s: %s", time.Since(asked).Seconds(), said)
	setImage(t, reef)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+older))
	require.Equal(t, before, daemonPods(t), "no daemon restarted")

	began := time.Now()
	setImage(t, tentacle)
	loseTheOperator(t)
	watchUpgrade(t)
	took := time.Since(began)
	w.endVerb(t, "upgrade", "18.2.7 to 20.2.4 in %.0f s", took.Seconds())

	require.Contains(t, inCephOf(t, older, "ceph osd dump"), "require_osd_release tentacle")
	after := daemonPods(t)
	require.Len(t, after, len(before))
	for name := range before {
		require.NotContains(t, after, name, "each daemon runs anew")
	}
	changesHostMons(t, older)
	removeOlder(t)
}

// makeOlder makes a cluster of Reef on a new disk of each node, and a pool. It is on the
// host network.
func makeOlder(t *testing.T) {
	ctx := bounded(t)
	require.NoError(t, lab.LoadImages(ctx, reef))
	nodes, err := lab.Nodes()
	require.NoError(t, err)
	var storage strings.Builder
	for _, node := range nodes {
		disk, err := lab.AddDisk(ctx, node.Name, 10<<30)
		require.NoError(t, err)
		fmt.Fprintf(&storage, "      - {name: %s, devices: [{name: %s}]}\n", node.Name, strings.TrimPrefix(disk, "/dev/disk/by-id/"))
	}
	options, err := os.ReadFile("../lab/cluster-config.yaml")
	require.NoError(t, err)
	_, config, _ := strings.Cut(string(options), "  ceph:\n")
	_, err = kubectl.RunWith(ctx, fmt.Sprintf(`
apiVersion: cairn.storage/v1alpha1
kind: StorageCluster
metadata: {name: %s, namespace: %s}
spec:
  network: {provider: host}
  storage:
    nodes:
%s  ceph:
    image: %s
%s`, older, kubectl.Namespace, storage.String(), reef, config), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(ctx, "storagecluster/"+older))
	_, err = kubectl.RunWith(ctx, fmt.Sprintf(`
apiVersion: cairn.storage/v1alpha1
kind: BlockPool
metadata: {name: %[1]s, namespace: %[2]s}
spec: {cluster: %[1]s, replicas: 3, failureDomain: host, storageClass: {fsType: xfs}}
`, older, kubectl.Namespace), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(ctx, "blockpool/"+older))
}

func setImage(t *testing.T, image string) {
	_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "storagecluster", older, "--type=merge", "-p", `{"spec":{"ceph":{"image":"`+image+`"}}}`)
	require.NoError(t, err)
}

// watchUpgrade waits until the cluster is Ready again, and logs what it said meanwhile.
func watchUpgrade(t *testing.T) {
	began, last := time.Now(), ""
	const path = `{.status.upgrade.progress} {.status.blocker.reason} {.status.versions} {.status.image} {.status.conditions[?(@.type=="Ready")].status}: {.status.conditions[?(@.type=="Ready")].message}`
	require.NoError(t, kubectl.Until(bounded(t), "the upgrade to end", func() (bool, string) {
		now, err := kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+older, path)
		if err != nil {
			return false, err.Error()
		}
		if now != last {
			last = now
			t.Logf("%4.0f s %s", time.Since(began).Seconds(), now)
		}
		return strings.Contains(now, tentacle+" True: "), now
	}))
	versions, err := kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+older, "{.status.versions}{.status.upgrade}")
	require.NoError(t, err)
	require.Equal(t, `{"20.2.4":8}`, versions)
}

// daemonPods of the cluster, with how often each container restarted.
func daemonPods(t *testing.T) map[string]string {
	out, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", "pods", "-l", "cairn.storage/cluster="+older+",app.kubernetes.io/component in (mon,mgr,osd)",
		"-o", `jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].restartCount} {end}`)
	require.NoError(t, err)
	pods := map[string]string{}
	for _, pod := range strings.Fields(out) {
		name, restarts, _ := strings.Cut(pod, "=")
		pods[name] = restarts
	}
	return pods
}

func removeOlder(t *testing.T) {
	ctx := bounded(t)
	_, err := kubectl.Run(ctx, "-n", namespace, "delete", "pvc", "upgraded", "hosted", "--timeout=2m")
	require.NoError(t, err)
	for _, object := range []string{"blockpool/" + older, "storagecluster/" + older} {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", object, "--timeout=2m")
		require.NoError(t, err)
	}
}
