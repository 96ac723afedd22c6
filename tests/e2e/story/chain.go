package story

import (
	"context"
	"errors"
	"fmt"
	"os/exec"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

// A chain is a table whose rows are numbered in the order in which they were
// committed, each with a digest over all before it. Of two chains one can tell
// whether one is how the other began: that is what a snapshot must be.
const (
	makeChain = `create table if not exists head (n bigint, digest text);
		insert into head select 0, '' where not exists (select from head);
		create table if not exists chain (n bigint primary key, digest text not null)`
	addLink = `with h as (update head set n = n + 1, digest = md5(digest || n + 1) returning n, digest)
		insert into chain select n, digest from h;`
	readChain = `select count(*), coalesce(max(n), 0), count(*) filter (where digest = md5(coalesce(before, '') || n))
		from (select n, digest, lag(digest) over (order by n) as before from chain) as links`
)

// ReadLedger is one query for all that a snapshot must keep: the chain, its last
// digest, and the sums of what pgbench did.
const ReadLedger = `select c.*, (select digest from chain where n = c.last), (select sum(abalance) from pgbench_accounts),
	(select sum(tbalance) from pgbench_tellers), (select sum(bbalance) from pgbench_branches), (select coalesce(sum(delta), 0) from pgbench_history)
	from (` + readChain + `) as c (links, last, sound)`

// ParseLedger reads the answer to ReadLedger: how long the chain is, and its last
// digest. It is an error when a link is missing or changed, or a sum is another.
func ParseLedger(answer string) (length int, digest string, err error) {
	f := strings.Split(answer, "|")
	if len(f) != 8 || f[0] != f[1] || f[1] != f[2] || f[4] != f[5] || f[5] != f[6] || f[6] != f[7] {
		return 0, "", fmt.Errorf("the ledger is broken: links, last number, sound links, digest and sums are %s", answer)
	}
	length, err = strconv.Atoi(f[0])
	return length, f[3], err
}

// ChainLength is how long the chain is, and an error when it is none: when a link
// is missing or changed.
func (d Database) ChainLength(ctx context.Context) (int, error) {
	seen, err := d.Query(ctx, readChain)
	if err != nil {
		return 0, err
	}
	f := strings.Split(seen, "|")
	if len(f) != 3 || f[0] != f[1] || f[1] != f[2] {
		return 0, fmt.Errorf("the chain is broken: links, last number and sound links are %s", seen)
	}
	return strconv.Atoi(f[0])
}

// ChainDigest is the digest of the first n links.
func (d Database) ChainDigest(ctx context.Context, n int) (string, error) {
	return d.Query(ctx, fmt.Sprintf("select digest from chain where n = %d", n))
}

// Load runs pgbench, both its own transactions and those that make the chain
// longer, until stop is called, which returns an error if it ended before.
func (d Database) Load(ctx context.Context) (stop func() error, err error) {
	if _, err := d.Query(ctx, makeChain); err != nil {
		return nil, err
	}
	if _, err := d.Exec(ctx, "bash", "-ec", `printf '%s' "$0" >/tmp/link.sql`, strings.Join(strings.Fields(addLink), " ")); err != nil {
		return nil, err
	}
	return d.startLoad(ctx)
}

func (d Database) startLoad(ctx context.Context) (func() error, error) {
	const forever = "3600"
	load := kubectl.Command(ctx, d.in("pgbench", "-n", "-h", "/tmp", "-c", "4", "-j", "2", "-T", forever, "-b", "tpcb-like@1", "-f", "/tmp/link.sql@1", "postgres")...)
	var out strings.Builder
	load.Stdout, load.Stderr = &out, &out
	if err := load.Start(); err != nil {
		return nil, fmt.Errorf("start pgbench: %w", err)
	}
	ended := make(chan error, 1)
	go func() { ended <- load.Wait() }()
	return func() error {
		select {
		case err := <-ended:
			return fmt.Errorf("pgbench ended by itself: %w: %s", err, out.String())
		default:
		}
		_, err := d.Query(ctx, "select count(pg_terminate_backend(pid)) from pg_stat_activity where application_name = 'pgbench'")
		var exit *exec.ExitError
		if gone := <-ended; gone != nil && !errors.As(gone, &exit) {
			err = errors.Join(err, gone)
		}
		return err
	}, nil
}
