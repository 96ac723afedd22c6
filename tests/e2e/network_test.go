package e2e

import (
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
	for _, pod := range strings.Fields(before) {
		require.NotContains(t, podsOf(t, "mon,mgr,osd"), pod, "all daemons restarted")
	}
	modes := modesOf(t)
	t.Logf("connections of OSDs and mons: %v", modes)
	require.Empty(t, modes["crc"])
	require.Empty(t, modes["v1"])
	require.NotEmpty(t, modes["secure"])
	require.Equal(t, "refused", asks(t, `rados --ms_client_mode=crc -p `+story.Pool+` ls`), "OSDs refuse what is not encrypted")
	require.Equal(t, "refused", asks(t, `ceph --ms_mon_client_mode=crc --ms_client_mode=crc status`), "mons do, too")
	require.Equal(t, "refused", asks(t, `bash -c ': </dev/tcp/$POD_IP/6789'`), "and speak no version 1")
	require.Equal(t, "served", asks(t, `bash -c ': </dev/tcp/$POD_IP/3300'`))
	require.Equal(t, "served", asks(t, `rados -p `+story.Pool+` ls`))

	setNetwork(t, `null`)
	require.NotEmpty(t, modesOf(t)["crc"])
	require.Equal(t, "served", asks(t, `rados --ms_client_mode=crc -p `+story.Pool+` ls`))
	require.Equal(t, "served", asks(t, `bash -c ': </dev/tcp/$POD_IP/6789'`))
	w.endVerb(t, "encryption", "connections encrypted and not, all daemons restarted twice")
}

// setNetwork of the cluster, and wait until it is so.
func setNetwork(t *testing.T, network string) {
	_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "storagecluster", story.Cluster, "--type=merge", "-p", `{"spec":{"network":`+network+`}}`)
	require.NoError(t, err)
	require.NoError(t, story.UntilReady(bounded(t), "storagecluster/"+story.Cluster))
}

// modesOf counts how the connections of OSDs and mons are sent: crc, secure, v1.
func modesOf(t *testing.T) map[string]int {
	const script = `
for daemon in $(ceph osd ls | sed s/^/osd./) $(ceph mon dump -f json 2>/dev/null | grep -o '"name":"[a-z]*"' | sed 's/"name":"\(.*\)"/mon.\1/'); do
  case $daemon in osd*) messengers="client cluster" ;; *) messengers=mon ;; esac
  for messenger in $messengers; do ceph tell $daemon messenger dump $messenger all; done
done | grep -o '"con_mode": "[a-z]*"\|"v1": {' | sort | uniq -c`
	modes := map[string]int{}
	for line := range strings.Lines(inCeph(t, script)) {
		for _, mode := range []string{"crc", "secure", "v1"} {
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
