package e2e

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// installsSnapshots installs what a cluster needs for snapshots of any driver,
// after Cairn, and sees Cairn take notice.
func installsSnapshots(t *testing.T) {
	ctx := bounded(t)
	require.NoError(t, story.InstallSnapshots(ctx))
	require.NoError(t, kubectl.UntilField(ctx, "", "volumesnapshotclass/"+story.Pool, "{.driver}", "block.csi.cairn.storage"))
}

// snapshotIsAPrefix takes a snapshot of a database under load, and starts a
// second database on a larger volume made from it, beside the first. What the
// second holds is how the first's ledger began, with all that was committed when
// the snapshot was asked for.
func snapshotIsAPrefix(t *testing.T) {
	ctx := bounded(t)
	stop, err := story.Postgres.Load(ctx)
	require.NoError(t, err)
	before := grows(t, story.Postgres, 20)
	applyExample(t, "snapshot.yaml")
	ready(t, "volumesnapshot", "postgres")
	after, err := story.Postgres.ChainLength(ctx)
	require.NoError(t, err)

	applyExample(t, "restore.yaml")
	require.NoError(t, kubectl.UntilField(ctx, namespace, "pod/postgres-restored", `{.status.conditions[?(@.type=="Ready")].status}`, "True"))
	const restored story.Database = "postgres-restored"
	has, err := restored.ChainLength(ctx)
	require.NoError(t, err)
	require.GreaterOrEqual(t, has, before, "what was committed before the snapshot is in it")
	require.LessOrEqual(t, has, after, "what was committed after it is not")
	require.Equal(t, digest(t, story.Postgres, has), digest(t, restored, has), "it is how the ledger began")
	sums, err := restored.Ledger(ctx)
	require.NoError(t, err)
	size, err := restored.DataSize(ctx)
	require.NoError(t, err)
	require.Greater(t, size, 2900, "the filesystem has the size of the larger claim, in MiB")

	_, err = restored.Query(ctx, "insert into pgbench_tellers select max(tid) + 1, 1, 0 from pgbench_tellers")
	require.NoError(t, err)
	grows(t, story.Postgres, 20)
	require.NoError(t, stop())
	t.Logf("%d links when the snapshot was asked for, %d in it, %d when it was ready; %s; %d MiB", before, has, after, sums, size)
	_, err = story.Postgres.Ledger(ctx)
	require.NoError(t, err)
}

// grows waits until a ledger is longer by some links, and returns its length.
func grows(t *testing.T, d story.Database, links int) (length int) {
	ctx := bounded(t)
	first, err := d.ChainLength(ctx)
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, "the ledger to grow", func() (bool, string) {
		length, err = d.ChainLength(ctx)
		if err != nil {
			return false, err.Error()
		}
		return length >= first+links, ""
	}))
	return length
}

func digest(t *testing.T, d story.Database, n int) string {
	out, err := d.ChainDigest(bounded(t), n)
	require.NoError(t, err)
	require.NotEmpty(t, out)
	return out
}
