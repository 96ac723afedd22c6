package e2e

import (
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/verifier"
)

// groupTries is how many group snapshots are taken of a pair of volumes.
const groupTries = 20

// groupsAreConsistent takes group snapshots of two volumes to which numbers are
// written in turn, restores every member of each, and reads the last numbers: at
// any instant the first volume is at most one ahead.
func groupsAreConsistent(t *testing.T) {
	ctx := bounded(t)
	apply(t, claim{name: "ledger-data", size: "64Mi", block: true, labels: "app: ledger"},
		claim{name: "ledger-log", size: "64Mi", block: true, labels: "app: ledger"},
		pod{name: "ledger", verifier: []string{"pair", "/dev/ledger-data", "/dev/ledger-log"}, devices: []string{"ledger-data", "ledger-log"}})
	running(t, "ledger")

	example, err := story.Example("group-snapshot.yaml")
	require.NoError(t, err)
	var tries []string
	for i := range groupTries {
		name := fmt.Sprintf("ledger-%d", i)
		applyText(t, strings.Replace(example, "name: ledger\n", "name: "+name+"\n", 1))
		ready(t, "volumegroupsnapshot", name)
		tries = append(tries, name)
	}
	// All at once is faster than one after the other.
	t.Cleanup(func() {
		if !t.Failed() {
			_, err := kubectl.Run(context.WithoutCancel(ctx), "-n", namespace, "delete", "volumegroupsnapshot", "--all", "--timeout=2m")
			require.NoError(t, err)
		}
	})
	pairs := readTries(t, tries)
	last := verifier.Pair{}
	for i, pair := range pairs {
		require.True(t, pair.Consistent(), "%s: %+v", tries[i], pair)
		require.Greater(t, pair.First, last.First, "%s is of a later instant than the one before", tries[i])
		last = pair
	}
	phase, err := kubectl.Get(ctx, namespace, "pod/ledger", "{.status.phase}")
	require.NoError(t, err)
	require.Equal(t, "Running", phase, "no write failed meanwhile")
	t.Logf("%d of %d group snapshots are consistent: %+v", len(pairs), groupTries, pairs)
}

// readTries makes volumes of the members of group snapshots and reads all of them
// in one pod.
func readTries(t *testing.T, tries []string) (pairs []verifier.Pair) {
	ctx := bounded(t)
	var objects []fmt.Stringer
	var names, paths []string
	for _, try := range tries {
		for _, source := range []string{"ledger-data", "ledger-log"} {
			name := "from-" + try + strings.TrimPrefix(source, "ledger")
			objects = append(objects, claim{name: name, size: "64Mi", block: true, from: "VolumeSnapshot/" + memberOf(t, try, source)})
			names, paths = append(names, name), append(paths, "/dev/"+name)
		}
	}
	apply(t, append(objects, pod{name: "reader", verifier: []string{"hold"}, devices: names})...)
	running(t, "reader")
	out, err := kubectl.Run(ctx, append([]string{"-n", namespace, "exec", "reader", "--", "/verifier", "check"}, paths...)...)
	require.NoError(t, err)
	require.NoError(t, json.Unmarshal([]byte(out), &pairs), out)
	require.Len(t, pairs, len(tries))
	return pairs
}

// memberOf is the name of the snapshot of one claim in a group snapshot.
func memberOf(t *testing.T, group, claim string) string {
	t.Helper()
	var name string
	require.NoError(t, kubectl.Until(bounded(t), "the member of "+group+" for "+claim, func() (bool, string) {
		out, err := kubectl.Run(bounded(t), "-n", namespace, "get", "volumesnapshots", "-o",
			`jsonpath={range .items[*]}{.metadata.ownerReferences[?(@.kind=="VolumeGroupSnapshot")].name} {.spec.source.persistentVolumeClaimName} {.status.readyToUse} {.metadata.name}{"\n"}{end}`)
		if err != nil {
			return false, err.Error()
		}
		for line := range strings.Lines(out) {
			if rest, found := strings.CutPrefix(line, group+" "+claim+" true "); found {
				name = strings.TrimSpace(rest)
				return true, ""
			}
		}
		return false, out
	}))
	return name
}
