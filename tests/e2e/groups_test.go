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

// groupTries is how many group snapshots are taken.
const groupTries = 20

// ledger is a PostgreSQL whose log of writes is on a volume of its own.
const ledger story.Database = "ledger"

// startLedger is for a pod that has a volume at /ledger-data and one at /ledger-wal.
// The small caches and logs make it write to both all the time: a checkpoint with
// each MiB.
const startLedger = `export PGDATA=/ledger-data/pgdata
initdb --auth=trust --data-checksums --waldir=/ledger-wal/pg_wal --wal-segsize=1 >/dev/null
cat >>$PGDATA/postgresql.conf <<end
unix_socket_directories = '/tmp'
listen_addresses = ''
shared_buffers = 1MB
min_wal_size = 2MB
max_wal_size = 2MB
checkpoint_completion_target = 0.1
recovery_init_sync_method = syncfs
end
exec postgres`

// asPostgres is who the database runs as.
const asPostgres = "runAsUser: 999, runAsGroup: 999, fsGroup: 999, fsGroupChangePolicy: OnRootMismatch"

// groupTry is one group snapshot: how long the ledger was when it was asked for,
// and when it was there; and the members, by the claims that they are of.
type groupTry struct {
	name          string
	before, after int
	members       map[string]string
}

// groupsAreConsistent takes group snapshots of four volumes on two nodes, all
// written to: a PostgreSQL's data and log, and two to which numbers are written
// in turn. It restores every member of each.
func groupsAreConsistent(t *testing.T) {
	ctx := bounded(t)
	const grouped, small = "app: ledger", "256Mi"
	apply(t, class{name: string(ledger), fsid: fsid(t), filesystem: "ext4"},
		claim{name: "ledger-data", class: string(ledger), size: small, labels: grouped}, claim{name: "ledger-wal", class: string(ledger), size: small, labels: grouped},
		pod{name: string(ledger), node: "node1", script: startLedger, filesystems: []string{"ledger-data", "ledger-wal"}, security: asPostgres},
		claim{name: "first", size: "64Mi", block: true, labels: grouped}, claim{name: "second", size: "64Mi", block: true, labels: grouped},
		pod{name: "pair", node: "node2", verifier: []string{"pair", "/dev/first", "/dev/second"}, devices: []string{"first", "second"}})
	running(t, "pair")
	answers(t, ledger)
	_, err := ledger.Exec(ctx, "pgbench", "-i", "-q", "-h", "/tmp", "postgres")
	require.NoError(t, err)
	stop, err := ledger.Load(ctx)
	require.NoError(t, err)
	tries := takeGroups(t)
	require.NoError(t, stop())
	phase, err := kubectl.Get(ctx, namespace, "pod/pair", "{.status.phase}")
	require.NoError(t, err)
	require.Equal(t, "Running", phase, "no write failed meanwhile")

	t.Run("databases", func(t *testing.T) { databasesRecover(t, tries) })
	t.Run("numbers", func(t *testing.T) { numbersAgree(t, tries) })
}

// takeGroups takes the group snapshots one after the other.
func takeGroups(t *testing.T) []groupTry {
	ctx := bounded(t)
	example, err := story.Example("group-snapshot.yaml")
	require.NoError(t, err)
	tries := make([]groupTry, groupTries)
	for i := range tries {
		try := &tries[i]
		try.name = fmt.Sprintf("ledger-%d", i)
		try.before = grows(t, ledger, 1)
		applyText(t, strings.Replace(example, "name: ledger\n", "name: "+try.name+"\n", 1))
		ready(t, "volumegroupsnapshot", try.name)
		try.after, err = ledger.ChainLength(ctx)
		require.NoError(t, err)
	}
	// All at once is faster than one after the other.
	t.Cleanup(func() {
		if !t.Failed() {
			_, err := kubectl.Run(context.WithoutCancel(ctx), "-n", namespace, "delete", "volumegroupsnapshot", "--all", "--timeout=2m")
			require.NoError(t, err)
		}
	})
	findMembers(t, tries)
	return tries
}

// findMembers waits until all members of group snapshots can be used.
func findMembers(t *testing.T, tries []groupTry) {
	ctx := bounded(t)
	require.NoError(t, kubectl.Until(ctx, "all members to be ready", func() (bool, string) {
		out, err := kubectl.Run(ctx, "-n", namespace, "get", "volumesnapshots", "-o",
			`jsonpath={range .items[*]}{.metadata.ownerReferences[?(@.kind=="VolumeGroupSnapshot")].name} {.spec.source.persistentVolumeClaimName} {.metadata.name} {.status.readyToUse}{"\n"}{end}`)
		if err != nil {
			return false, err.Error()
		}
		members := map[string]map[string]string{}
		for line := range strings.Lines(out) {
			if f := strings.Fields(line); len(f) == 4 && f[3] == "true" {
				if members[f[0]] == nil {
					members[f[0]] = map[string]string{}
				}
				members[f[0]][f[1]] = f[2]
			}
		}
		for i := range tries {
			if tries[i].members = members[tries[i].name]; len(tries[i].members) != 4 {
				return false, out
			}
		}
		return true, ""
	}))
}

// recoverLedgers starts a database on each pair of volumes in turn, some at once, and
// prints its name and what its ledger says. The log is where this pod has it, and
// the process whose ID is in the file is not of this pod.
const recoverLedgers = `recover() {
  mkdir /tmp/$1; cd /$1-data/pgdata; rm postmaster.pid; ln -sfn /$1-wal/pg_wal pg_wal
  pg_ctl -s -w -D . -l /tmp/$1/log -o "-k /tmp/$1 -c listen_addresses=" start || { tail -n 30 /tmp/$1/log; return 1; } >&2
  ledger=$(psql -h /tmp/$1 -qAtc "$query")
  pg_ctl -s -D . -m immediate stop
  echo "$1 $ledger"
}
export query=$0; export -f recover
printf '%s\n' "$@" | xargs -P 4 -I{} bash -ec 'recover {}'`

// databasesRecover starts a database on the data and the log of each group
// snapshot. Each recovers to how the ledger began, with all that was committed
// when the snapshot was asked for.
func databasesRecover(t *testing.T, tries []groupTry) {
	var objects []fmt.Stringer
	var volumes []string
	command := []string{"-n", namespace, "exec", "restored", "--", "bash", "-ec", recoverLedgers, story.ReadLedger}
	for _, try := range tries {
		for _, volume := range []string{"-data", "-wal"} {
			objects = append(objects, claim{name: try.name + volume, class: string(ledger), size: "256Mi", from: "VolumeSnapshot/" + try.members["ledger"+volume]})
			volumes = append(volumes, try.name+volume)
		}
		command = append(command, try.name)
	}
	apply(t, append(objects, pod{name: "restored", filesystems: volumes, security: asPostgres})...)
	running(t, "restored")
	out, err := kubectl.Run(bounded(t), command...)
	require.NoError(t, err)
	ledgers := map[string]string{}
	for line := range strings.Lines(out) {
		name, answer, _ := strings.Cut(strings.TrimSpace(line), " ")
		ledgers[name] = answer
	}
	var lengths []int
	for _, try := range tries {
		has, last, err := story.ParseLedger(ledgers[try.name])
		require.NoError(t, err, try.name)
		require.GreaterOrEqual(t, has, try.before, "%s: what was committed before the snapshot is in it", try.name)
		require.LessOrEqual(t, has, try.after, "%s: what was committed after it is not", try.name)
		require.Equal(t, digest(t, ledger, has), last, "%s is how the ledger began", try.name)
		lengths = append(lengths, has)
	}
	t.Logf("%d of %d databases recovered to how the ledger began; links: %d", len(lengths), groupTries, lengths)
}

// numbersAgree restores the pairs of all group snapshots and reads the last
// numbers: at any instant the first volume is at most one ahead.
func numbersAgree(t *testing.T, tries []groupTry) {
	var objects []fmt.Stringer
	var names, paths []string
	for _, try := range tries {
		for _, source := range []string{"first", "second"} {
			name := try.name + "-" + source
			objects = append(objects, claim{name: name, size: "64Mi", block: true, from: "VolumeSnapshot/" + try.members[source]})
			names, paths = append(names, name), append(paths, "/dev/"+name)
		}
	}
	apply(t, append(objects, pod{name: "reader", verifier: []string{"hold"}, devices: names})...)
	running(t, "reader")
	out, err := kubectl.Run(bounded(t), append([]string{"-n", namespace, "exec", "reader", "--", "/verifier", "check"}, paths...)...)
	require.NoError(t, err)
	var pairs []verifier.Pair
	require.NoError(t, json.Unmarshal([]byte(out), &pairs), out)
	require.Len(t, pairs, len(tries))
	last := verifier.Pair{}
	for i, pair := range pairs {
		require.True(t, pair.Consistent(), "%s: %+v", tries[i].name, pair)
		require.Greater(t, pair.First, last.First, "%s is of a later instant than the one before", tries[i].name)
		last = pair
	}
	t.Logf("%d of %d pairs are consistent: %+v", len(pairs), groupTries, pairs)
}

// answers waits until a database does.
func answers(t *testing.T, d story.Database) {
	t.Helper()
	require.NoError(t, kubectl.Until(bounded(t), string(d)+" to answer", func() (bool, string) {
		_, err := d.Query(bounded(t), "select")
		return err == nil, fmt.Sprint(err)
	}))
}
