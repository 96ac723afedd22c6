// Command bench measures Cairn on this machine and writes docs/benchmarks.json
// and docs/benchmarks.md: `go run ./tests/bench [NAME...]`, where a name is that
// of a value or of the group that it is measured with.
package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"slices"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-storage/cairn/tests/bench/result"
)

// group is what is measured together.
type group struct {
	name string
	// lab groups change the lab; the others need no more than the build root.
	lab     bool
	entries []string
	measure func(ctx context.Context, b *bench) ([]result.Entry, error)
}

var groups = []group{
	{"calls", false, callEntries(), local("calls")},
	{"fio", false, []string{"fio_randwrite_qd1_ratio", "fio_randwrite_qd16_ratio", "fio_randread_qd1_ratio",
		"fio_randread_qd16_ratio", "fio_seqwrite_ratio", "fio_seqread_ratio"}, local("fio")},
	{"attach", false, []string{"attach_ms_p50"}, local("attach")},
	{"memory", false, []string{"controller_mib_10k"}, memory},
	{"sim", false, simEntries, sim},
	{"plan", false, []string{"plan_error_max_percent"}, planError},
	{"verbs", false, verbEntries(), verbs},
	{"lab", true, []string{"lab_up_warm_s"}, labUp},
	{"install", true, []string{"install_ratio", "add_three_osds_ratio"}, install},
	{"kill", true, []string{"plugin_kill_stall_ms", "datapath_kill_stall_ms"}, stalls},
	{"claims", true, []string{"claims_bound_per_s_1000", "claims_gone_per_s_1000"}, claims},
	{"rss", true, []string{"rss_operator_mib", "rss_controller_mib", "rss_node_mib", "rss_per_volume_mib"}, rss},
}

// callEntries are the names of what is measured of the Controller's calls.
func callEntries() (names []string) {
	for _, call := range []string{"create", "delete", "snapshot", "clone", "restore"} {
		for _, load := range []string{"p50_ratio_c1", "p99_ratio_c1", "p50_ratio_c32", "p99_ratio_c32"} {
			names = append(names, call+"_"+load)
		}
		names = append(names, call+"_rados_ops")
	}
	return append(names, "create_p50_ratio_c16", "create_p99_ratio_c16")
}

// bench is one run.
type bench struct {
	repository string
	began      time.Time
}

func (b *bench) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%7.1fs  %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, "bench:", err)
		os.Exit(1)
	}
}

func run(ctx context.Context, names []string) error {
	chosen, err := choose(names)
	if err != nil {
		return err
	}
	out, err := exec.CommandContext(ctx, "go", "env", "GOMOD").Output()
	if err != nil {
		return fmt.Errorf("find the repository: %w", err)
	}
	b := &bench{repository: filepath.Dir(strings.TrimSpace(string(out))), began: time.Now()}
	var errs []error
	for _, labs := range []bool{false, true} {
		errs = append(errs, b.runAll(ctx, chosen, labs))
	}
	return errors.Join(errs...)
}

// choose returns the groups that the names are of; no name means all.
func choose(names []string) ([]group, error) {
	var chosen []group
	for _, g := range groups {
		if len(names) == 0 || slices.ContainsFunc(names, func(n string) bool { return n == g.name || slices.Contains(g.entries, n) }) {
			chosen = append(chosen, g)
		}
	}
	for _, n := range names {
		if !slices.ContainsFunc(chosen, func(g group) bool { return n == g.name || slices.Contains(g.entries, n) }) {
			var known []string
			for _, g := range groups {
				known = append(append(known, g.name), g.entries...)
			}
			return nil, fmt.Errorf("nothing is called %q: there are %s", n, strings.Join(known, ", "))
		}
	}
	return chosen, nil
}

// runAll measures group after group; one that fails does not keep the next from
// its turn, and what was measured is written at once.
func (b *bench) runAll(ctx context.Context, chosen []group, labs bool) error {
	chosen = slices.DeleteFunc(slices.Clone(chosen), func(g group) bool { return g.lab != labs })
	if len(chosen) == 0 {
		return nil
	}
	if labs {
		release, err := b.takeLab(ctx)
		if err != nil {
			return err
		}
		defer release()
	}
	var errs []error
	for _, g := range chosen {
		if ctx.Err() != nil {
			return errors.Join(append(errs, ctx.Err())...)
		}
		b.say("%s …", g.name)
		entries, err := g.measure(ctx, b)
		if err != nil {
			errs = append(errs, fmt.Errorf("%s: %w", g.name, err))
			b.say("✗ %s: %v", g.name, err)
		}
		for _, e := range entries {
			b.say("✓ %s = %g %s (%s)", e.Name, e.Value, e.Unit, e.Note)
		}
		if err := result.Merge(b.repository, entries); err != nil {
			return errors.Join(append(errs, err)...)
		}
	}
	return errors.Join(errs...)
}
