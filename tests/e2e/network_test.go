package e2e

import (
	"fmt"
	"slices"
	"strconv"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// encryptsConnections has all that daemons and clients send each other encrypted, and
// not any more, while every acknowledged write is recorded.
func encryptsConnections(t *testing.T) {
	w := startWriter(t, "encrypting")
	before := podsOf(t, "mon,mgr,osd")
	require.NotEmpty(t, modesOf(t)["crc"], "without encryption data goes as it is")

	setNetwork(t, `{"encryption": true}`)
	require.NoError(t, kubectl.Until(bounded(t), "all daemons to have restarted", func() (bool, string) {
		now := podsOf(t, "mon,mgr,osd")
		return !slices.ContainsFunc(strings.Fields(before), func(pod string) bool { return strings.Contains(now, pod) }), now
	}))
	require.NoError(t, kubectl.Until(bounded(t), "all connections to be encrypted", func() (bool, string) {
		modes := modesOf(t)
		return modes["crc"] == 0 && modes["secure"] > 0, fmt.Sprint(modes)
	}))
	t.Logf("connections of OSDs and mons: %v", modesOf(t))
	list := "rados -p " + story.Pool + " ls"
	require.NoError(t, kubectl.Until(bounded(t), "OSDs to serve", func() (bool, string) { return asks(t, list) == "served", "" }))
	require.Equal(t, "refused", asks(t, list+" --ms_client_mode=crc"), "OSDs refuse what is not encrypted")
	require.Equal(t, "refused", asks(t, `ceph --ms_mon_client_mode=crc --ms_client_mode=crc status`), "mons do, too")
	require.Equal(t, "refused", asks(t, `bash -c ': </dev/tcp/$POD_IP/6789'`), "and speak no version 1")
	require.Equal(t, "served", asks(t, `bash -c ': </dev/tcp/$POD_IP/3300'`))

	setNetwork(t, `null`)
	require.NoError(t, kubectl.Until(bounded(t), "OSDs to take what is not encrypted", func() (bool, string) { return asks(t, list+" --ms_client_mode=crc") == "served", "" }))
	require.NoError(t, kubectl.Until(bounded(t), "connections not to be encrypted", func() (bool, string) {
		modes := modesOf(t)
		return modes["crc"] > 0, fmt.Sprint(modes)
	}))
	require.Equal(t, "served", asks(t, `bash -c ': </dev/tcp/$POD_IP/6789'`))
	w.endVerb(t, "encryption", "connections encrypted and not, all daemons restarted twice")
}

// changesHostMons takes two of three mons of a cluster on the host network away and adds
// two again, while every acknowledged write is recorded. Those have other names, and the
// addresses of their nodes; the clients follow.
func changesHostMons(t *testing.T, cluster string) {
	ctx := bounded(t)
	w := startWriterOn(t, "hosted", cluster)
	for _, count := range []string{"1", "3"} {
		_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", cluster, "--type=merge", "-p", `{"spec":{"mon":{"count":`+count+`}}}`)
		require.NoError(t, err)
		require.NoError(t, story.UntilReady(ctx, "storagecluster/"+cluster))
	}
	addresses, err := kubectl.Run(ctx, "get", "nodes", "-o", `jsonpath={range .items[*]}{.status.addresses[?(@.type=="InternalIP")].address} {end}`)
	require.NoError(t, err)
	dump := inCephOf(t, cluster, "ceph mon dump 2>/dev/null")
	for _, address := range strings.Fields(addresses) {
		require.Contains(t, dump, "[v2:"+address+":3300/0,v1:"+address+":6789/0]")
	}
	for _, name := range []string{"mon.a", "mon.d", "mon.e"} {
		require.Contains(t, dump, name)
	}
	w.endVerb(t, "mon_count_host", "mons of the host network 3, 1, 3")
}

// setNetwork of the cluster, and wait until it is so.
func setNetwork(t *testing.T, network string) {
	_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p", `{"spec":{"network":`+network+`}}`)
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
}

// modesOf counts how the connections of OSDs and mons are sent: crc, secure.
func modesOf(t *testing.T) map[string]int {
	const script = `
for daemon in $(ceph osd ls | sed s/^/osd./) $(ceph mon dump -f json 2>/dev/null | grep -o '"name":"[a-z]*"' | sed 's/"name":"\(.*\)"/mon.\1/'); do
  case $daemon in osd*) messengers="client cluster" ;; *) messengers=mon ;; esac
  for messenger in $messengers; do ceph tell $daemon messenger dump $messenger all; done
done | grep -o '"con_mode": "[a-z]*"' | sort | uniq -c`
	modes := map[string]int{}
	for line := range strings.Lines(inCeph(t, script)) {
		for _, mode := range []string{"crc", "secure"} {
			if count, of, _ := strings.Cut(strings.TrimSpace(line), " "); strings.Contains(of, `"`+mode+`"`) {
				n, err := strconv.Atoi(count)
				require.NoError(t, err)
				modes[mode] += n
			}
		}
	}
	return modes
}

// asks runs a command that is refused when it does not succeed soon.
func asks(t *testing.T, command string) string {
	return strings.TrimSpace(inCeph(t, "if timeout 8 "+command+" >/dev/null 2>&1; then echo served; else echo refused; fi"))
}
