package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// codedPool is a pool of two data chunks and one coding chunk over the three hosts.
const codedPool = `
apiVersion: cairn.storage/v1alpha1
kind: BlockPool
metadata: {name: archive, namespace: ` + kubectl.Namespace + `}
spec: {cluster: ` + story.Cluster + `, erasureCoded: {dataChunks: 2, codingChunks: 1}, storageClass: {fsType: xfs}}
`

// erasureCodedPool kills two OSDs of an erasure-coded pool, one after the other, while every
// acknowledged write is recorded. Nothing is left when the pool is deleted.
func erasureCodedPool(t *testing.T) {
	ctx := bounded(t)
	const pool = "archive"
	object := "blockpool/" + pool
	_, err := kubectl.RunWith(ctx, codedPool, "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(ctx, object))
	require.Equal(t, "min_size: 2", strings.TrimSpace(inCeph(t, "ceph osd pool get archive.data min_size")))
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", object, "--type=merge", "-p", `{"spec":{"erasureCoded":{"codingChunks":2}}}`)
	require.ErrorContains(t, err, "Ceph cannot change the chunks of a pool")

	w := startWriterOn(t, "coded", pool)
	require.NotEmpty(t, strings.TrimSpace(inCeph(t, "rados -p archive.data ls --all | grep -m1 rbd_data")))
	require.Empty(t, strings.TrimSpace(inCeph(t, "rados -p archive ls --all | grep rbd_data || true")))
	for _, osd := range []string{"0", "1"} {
		killed := killEverywhere(t, "^ceph-osd -f -i "+osd+" ")
		require.Equal(t, 1, killed)
		require.NoError(t, kubectl.Until(ctx, "osd."+osd+" to be back, and all PGs clean", func() (bool, string) {
			now := inCeph(t, "ceph osd dump | grep '^osd."+osd+" '; ceph pg stat")
			return strings.Contains(now, " up ") && !strings.Contains(now, "degraded") && !strings.Contains(now, "undersized") && !strings.Contains(now, "peering"), now
		}))
	}
	w.endVerb(t, "erasure_coded", "two OSDs killed, one after the other")

	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", object, "--wait=false")
	require.NoError(t, err)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, object, `{.status.conditions[?(@.type=="Ready")].reason}`, "InUse"))
	drop(t, "pvc/coded")
	_, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "wait", "--for=delete", object, "--timeout=3m")
	require.NoError(t, err)
	left := inCeph(t, "ceph osd pool ls; ceph osd erasure-code-profile ls; ceph osd crush rule ls")
	require.NotContains(t, left, "archive")
}
