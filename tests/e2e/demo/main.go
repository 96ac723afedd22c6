// Command demo shows Cairn's main job on this machine: each step one line with
// its time, a summary at the end.
package main

import (
	"context"
	"fmt"
	"os"
	"os/exec"
	"os/signal"
	"strings"
	"syscall"
	"time"

	"github.com/cairn-storage/cairn/tests/e2e/story"
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		fmt.Fprintf(os.Stderr, "\nthe demo stopped: %v\nLook around with 'bin/lab kubectl -n cairn-system get storagecluster,pods', run 'make demo' again, or end it with 'make demo-down'.\n", err)
		os.Exit(1)
	}
}

type row struct{ name, took, saw string }

func run(ctx context.Context) error {
	began := time.Now()
	build := story.Step{Name: "Cairn's programs and images", Do: func(ctx context.Context) (string, error) {
		cmd := exec.CommandContext(ctx, "make", "-s", "images")
		cmd.Stderr = os.Stderr
		return "", cmd.Run()
	}}
	var rows []row
	for _, step := range append([]story.Step{build}, story.Steps()...) {
		fmt.Printf("%7.1fs  %s …\n", time.Since(began).Seconds(), step.Name)
		start := time.Now()
		limit, cancel := context.WithTimeout(ctx, 30*time.Minute)
		saw, err := step.Do(limit)
		cancel()
		if err != nil {
			return fmt.Errorf("%s: %w", step.Name, err)
		}
		took := fmt.Sprintf("%.1f s", time.Since(start).Seconds())
		saw = strings.Join(strings.Fields(strings.ReplaceAll(saw, "\n", "; ")), " ")
		fmt.Printf("%7.1fs  ✓ %s (%s) %s\n", time.Since(began).Seconds(), step.Name, took, saw)
		rows = append(rows, row{step.Name, took, saw})
	}
	summary(rows, time.Since(began))
	return nil
}

func summary(rows []row, total time.Duration) {
	fmt.Printf("\n%-44s %9s  %s\n%s\n", "step", "time", "what was seen", strings.Repeat("-", 100))
	for _, r := range rows {
		fmt.Printf("%-44s %9s  %s\n", r.name, r.took, r.saw)
	}
	fmt.Printf("%-44s %9s\n\n", "all of it", fmt.Sprintf("%.1f s", total.Seconds()))
	fmt.Print(`Go on:
  bin/lab kubectl get storagecluster,blockpool,nodestorage -A
  bin/lab kubectl -n cairn-system describe storagecluster main
  bin/lab kubectl exec -it postgres-0 -- psql -h /tmp
  bin/lab node kill node2          (and: node start, freeze, thaw, cut, heal)
  make demo-down
`)
}
