package story

import (
	"context"
	"fmt"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

const (
	app       = "default"
	pod       = "pod/postgres-0"
	claim     = "persistentvolumeclaim/data-postgres-0"
	readyPath = `{.status.conditions[?(@.type=="Ready")].status}`
)

// Database is a pod in which PostgreSQL runs.
type Database string

// Postgres is the one of deploy/examples.
const Postgres Database = "postgres-0"

// Exec runs a program in the pod.
func (d Database) Exec(ctx context.Context, command ...string) (string, error) {
	return kubectl.Run(ctx, d.in(command...)...)
}

func (d Database) in(command ...string) []string {
	return append([]string{"-n", app, "exec", string(d), "--"}, command...)
}

// Query runs SQL in the database.
func (d Database) Query(ctx context.Context, sql string) (string, error) {
	return d.Exec(ctx, "psql", "-h", "/tmp", "-v", "ON_ERROR_STOP=1", "-qAtc", sql)
}

// StartPostgres starts the database and fills it.
func StartPostgres(ctx context.Context) (string, error) {
	if _, err := kubectl.Run(ctx, "apply", "-f", repository("deploy/examples/postgres.yaml")); err != nil {
		return "", err
	}
	if err := kubectl.UntilField(ctx, app, pod, readyPath, "True"); err != nil {
		return "", err
	}
	if exists, err := Postgres.Query(ctx, "select to_regclass('pgbench_accounts') is not null"); err != nil || exists == "t" {
		return "there already", err
	}
	for _, args := range [][]string{{"-i", "-q", "-s", "3"}, {"-n", "-c", "2", "-t", "200"}} {
		if _, err := Postgres.Exec(ctx, append(append([]string{"pgbench", "-h", "/tmp"}, args...), "postgres")...); err != nil {
			return "", err
		}
	}
	return Postgres.Ledger(ctx)
}

// Ledger is what the database holds, and an error when its sums do not agree:
// each transaction of pgbench adds one amount to four tables.
func (d Database) Ledger(ctx context.Context) (string, error) {
	sums, err := d.Query(ctx, `select (select count(*) from pgbench_accounts), (select count(*) from pgbench_history),
		(select sum(abalance) from pgbench_accounts), (select sum(tbalance) from pgbench_tellers),
		(select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history)`)
	if err != nil {
		return "", err
	}
	f := strings.Split(sums, "|")
	if len(f) != 6 || f[2] != f[3] || f[3] != f[4] || f[4] != f[5] {
		return "", fmt.Errorf("the sums of the ledger do not agree: %s", sums)
	}
	return fmt.Sprintf("%s accounts, %s transactions, balance %s", f[0], f[1], f[2]), nil
}

func transactions(ctx context.Context) (int, error) {
	count, err := Postgres.Query(ctx, "select count(*) from pgbench_history")
	if err != nil {
		return 0, err
	}
	return strconv.Atoi(count)
}

// MovePod makes the pod move to another node and compares the data.
func MovePod(ctx context.Context) (string, error) {
	before, err := Postgres.Ledger(ctx)
	if err != nil {
		return "", err
	}
	from, err := kubectl.Get(ctx, app, pod, "{.spec.nodeName}")
	if err != nil {
		return "", err
	}
	if _, err := kubectl.Run(ctx, "cordon", from); err != nil {
		return "", err
	}
	defer func() { _, _ = kubectl.Run(context.WithoutCancel(ctx), "uncordon", from) }()
	if _, err := kubectl.Run(ctx, "-n", app, "delete", pod); err != nil {
		return "", err
	}
	if err := kubectl.UntilField(ctx, app, pod, readyPath, "True"); err != nil {
		return "", err
	}
	to, err := kubectl.Get(ctx, app, pod, "{.spec.nodeName}")
	if err != nil {
		return "", err
	}
	after, err := Postgres.Ledger(ctx)
	switch {
	case err != nil:
		return "", err
	case to == from:
		return "", fmt.Errorf("the pod came back on %s, not on another node", from)
	case after != before:
		return "", fmt.Errorf("the data changed: %s before, %s after", before, after)
	}
	return fmt.Sprintf("%s → %s: %s", from, to, after), nil
}

// Expand grows the claim under the running database.
func Expand(ctx context.Context) (string, error) {
	before, err := Postgres.DataSize(ctx)
	if err != nil {
		return "", err
	}
	patch := `{"spec":{"resources":{"requests":{"storage":"2Gi"}}}}`
	if _, err := kubectl.Run(ctx, "-n", app, "patch", claim, "--type=merge", "-p", patch); err != nil {
		return "", err
	}
	after := before
	err = kubectl.Until(ctx, "the filesystem to grow to 2Gi", func() (bool, string) {
		size, err := Postgres.DataSize(ctx)
		if err != nil {
			return false, err.Error()
		}
		after = size
		return size > 1900, fmt.Sprintf("%d MiB", size)
	})
	if err != nil {
		return "", err
	}
	if _, err := Postgres.Ledger(ctx); err != nil {
		return "", err
	}
	return fmt.Sprintf("%d MiB → %d MiB, the pod kept running", before, after), nil
}

// DataSize of the filesystem in the pod, in MiB.
func (d Database) DataSize(ctx context.Context) (int, error) {
	out, err := d.Exec(ctx, "df", "-m", "--output=size", "/data")
	if err != nil {
		return 0, err
	}
	lines := strings.Fields(out)
	return strconv.Atoi(lines[len(lines)-1])
}
