package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// changesAPool changes a pool's replicas, failure domain, device class and
// compression and back, while every acknowledged write is recorded. What cannot work
// is refused with the figures, and changes nothing.
func changesAPool(t *testing.T) {
	ctx := bounded(t)
	object := "blockpool/" + story.Pool
	patch := func(spec string) {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", object, "--type=merge", "-p", `{"spec":`+spec+`}`)
		require.NoError(t, err)
	}
	is := func(variable string) string {
		return strings.TrimSpace(inCeph(t, "ceph osd pool get "+story.Pool+" "+variable))
	}
	class := strings.Fields(inCeph(t, "ceph osd crush class ls -f plain | tr -d '[]\",'"))[0]
	w := startWriter(t, "changed")

	patch(`{"replicas":9}`)
	require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, object, `{.status.conditions[?(@.type=="Ready")].reason}`, "TooFewFailureDomains"))
	message, err := kubectl.Get(ctx, kubectl.Namespace, object, `{.status.conditions[?(@.type=="Ready")].message}`)
	require.NoError(t, err)
	require.Contains(t, message, "9 different hosts; there are 3")
	require.Equal(t, "size: 3", is("size"))

	for _, change := range []struct{ spec, variable, want string }{
		{`{"replicas":2}`, "size", "size: 2"},
		{`{"replicas":3}`, "size", "size: 3"},
		{`{"failureDomain":"osd"}`, "crush_rule", "crush_rule: cairn_osd"},
		{`{"failureDomain":"host","deviceClass":"` + class + `"}`, "crush_rule", "crush_rule: cairn_host_" + class},
		{`{"deviceClass":null}`, "crush_rule", "crush_rule: cairn_host"},
		{`{"compression":"aggressive"}`, "compression_mode", "compression_mode: aggressive"},
		{`{"compression":"none"}`, "compression_mode", "compression_mode: none"},
	} {
		patch(change.spec)
		require.NoError(t, kubectl.Until(ctx, change.spec+" to be carried out", func() (bool, string) {
			now := is(change.variable)
			return now == change.want, now
		}))
		require.NoError(t, kubectl.UntilField(ctx, kubectl.Namespace, object, `{.status.conditions[?(@.type=="Ready")].reason}`, "AsSpecified"))
	}
	require.Equal(t, "min_size: 2", is("min_size"))
	w.endVerb(t, "pool_change", "pool changed 7 times")
}
