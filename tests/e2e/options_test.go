package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// setsOptions edits Ceph's options while every acknowledged write is recorded: a
// wrong one changes nothing, one is set while daemons run, and one restarts the OSDs.
func setsOptions(t *testing.T) {
	w := startWriter(t, "configured")
	before := podsOf(t, "mon,mgr,osd")

	setOSDOptions(t, `{"osd_max_scrubz": "2", "osd_op_num_shards": "3"}`)
	const blocker = "{.status.blocker.reason} {.status.blocker.message}"
	var said string
	require.NoError(t, kubectl.Until(bounded(t), "the option to be refused", func() (bool, string) {
		said, _ = kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+story.Cluster, blocker)
		return strings.HasPrefix(said, "InvalidOption spec.ceph.config.osd.osd_max_scrubz: Ceph has no such option; the nearest: osd_max_scrubs"), said
	}))
	t.Log(said)
	require.Equal(t, before, podsOf(t, "mon,mgr,osd"), "no daemon restarted")

	setOSDOptions(t, `{"osd_max_scrubz": null, "osd_op_num_shards": null, "osd_max_scrubs": "2"}`)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	shows(t, "osd_max_scrubs", "2")
	require.Equal(t, before, podsOf(t, "mon,mgr,osd"), "no daemon restarted")

	others := podsOf(t, "mon,mgr")
	setOSDOptions(t, `{"osd_op_num_shards": "3"}`)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	shows(t, "osd_op_num_shards", "3")
	require.Equal(t, others, podsOf(t, "mon,mgr"), "mons and mgrs did not restart")
	require.NotEqual(t, before, podsOf(t, "mon,mgr,osd"))

	setOSDOptions(t, `null`)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
	require.NotContains(t, inCeph(t, "ceph config dump"), "osd_max_scrubs")
	w.endVerb(t, "options", "options changed, OSDs restarted twice")
}

// setOSDOptions merges into the section osd of the options.
func setOSDOptions(t *testing.T, options string) {
	_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p", `{"spec":{"ceph":{"config":{"osd":`+options+`}}}}`)
	require.NoError(t, err)
}

// shows waits until every OSD that runs says that it has a value.
func shows(t *testing.T, option, value string) {
	script := fmt.Sprintf("for id in $(ceph osd ls); do ceph config show osd.$id %s; done", option)
	require.NoError(t, kubectl.Until(bounded(t), "the OSDs to have "+option, func() (bool, string) {
		seen := strings.Fields(inCeph(t, script))
		for _, has := range seen {
			if strings.TrimRight(has, "0") != value {
				return false, fmt.Sprint(seen)
			}
		}
		return len(seen) > 0, fmt.Sprint(seen)
	}))
}

// podsOf some kinds of the cluster's daemons.
func podsOf(t *testing.T, kinds string) string {
	out, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", "pods", "-l", "cairn.storage/cluster="+story.Cluster+",app.kubernetes.io/component in ("+kinds+")",
		"-o", `jsonpath={range .items[*]}{.metadata.name}={.status.containerStatuses[0].restartCount} {end}`)
	require.NoError(t, err)
	return out
}
