package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/go-logr/logr"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cairn-storage/cairn/tests/bench/result"
	"github.com/cairn-storage/cairn/tests/lab"
)

// looked is what tests/bench/sim prints.
type looked struct {
	Looks  []float64 `json:"looks"`
	CPU    float64   `json:"cpu"`
	Writes []string  `json:"writes"`
	Plans  []float64 `json:"plans"`
	Steps  int       `json:"steps"`
}

var simEntries = []string{"sim_reconcile_ms_1000", "sim_reconcile_growth_100_to_1000", "sim_writes_steady", "sim_operator_mib_1000", "sim_plan_upgrade_ms_1000"}

// sim measures the operator where a cluster has 100 and then 1,000 OSDs: the API
// server is real, nodes and pods are written by hand, Ceph is a model.
func sim(ctx context.Context, b *bench) (entries []result.Entry, err error) {
	log.SetLogger(logr.Discard())
	program := filepath.Join(b.repository, "bin", "bench-sim")
	build := exec.CommandContext(ctx, "go", "build", "-trimpath", "-o", program, "./tests/bench/sim")
	build.Dir, build.Stderr = b.repository, os.Stderr
	if err := errors.Join(build.Run(), lab.EnsureKubernetes(ctx)); err != nil {
		return nil, err
	}
	environment := &envtest.Environment{BinaryAssetsDirectory: lab.KubernetesDir(),
		CRDDirectoryPaths: []string{filepath.Join(b.repository, "deploy/crds")}, ErrorIfCRDPathMissing: true}
	environment.ControlPlane.GetAPIServer().Configure().Set("advertise-address", "127.0.0.1")
	config, err := environment.Start()
	defer func() { err = errors.Join(err, environment.Stop()) }()
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "cairn-bench-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	file := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(file, environment.KubeConfig, 0o600); err != nil {
		return nil, err
	}
	w, err := newWorld(ctx, config)
	if err != nil {
		return nil, fmt.Errorf("make a Kubernetes of nodes: %w", err)
	}
	small, err := b.grown(ctx, w, 10, program, file)
	if err != nil {
		return nil, err
	}
	great, err := b.grown(ctx, w, 100, program, file)
	if err != nil {
		return nil, err
	}
	mib, err := atRest(ctx, program, file)
	if err != nil {
		return nil, err
	}
	return simResults(small, great, mib), nil
}

func simResults(small, great *looked, mib float64) []result.Entry {
	before, after := result.Median(small.Looks), result.Median(great.Looks)
	return []result.Entry{
		result.New("sim", "sim_reconcile_ms_1000", "ms", after, "100 nodes, 1000 OSDs; median of %d, %s ms; %.3g ms of processor time each", len(great.Looks), result.Spread(great.Looks), great.CPU),
		result.New("sim", "sim_reconcile_growth_100_to_1000", "ratio", after/before, "%.3g ms over %.3g ms; of processor time %.3g ms over %.3g ms", after, before, great.CPU, small.CPU),
		result.New("sim", "sim_writes_steady", "writes", float64(len(small.Writes)+len(great.Writes)), "in %d reconciles with 100 OSDs and %d with 1000", len(small.Looks), len(great.Looks)),
		result.New("sim", "sim_operator_mib_1000", "MiB", mib, "the whole operator with Ceph's model in place of librados, 45 s after its start"),
		result.New("sim", "sim_plan_upgrade_ms_1000", "ms", result.Median(great.Plans), "%d steps; median of %d, %s ms; %.3g ms with 100 OSDs", great.Steps, len(great.Plans), result.Spread(great.Plans), result.Median(small.Plans)),
	}
}

// grown lets the cluster grow, and measures looks at it.
func (b *bench) grown(ctx context.Context, w *world, nodes int, program, kubeconfig string) (*looked, error) {
	ctx, cancel := context.WithTimeout(ctx, 15*time.Minute)
	defer cancel()
	began := time.Now()
	if err := w.grow(ctx, nodes); err != nil {
		return nil, fmt.Errorf("grow to %d nodes: %w", nodes, err)
	}
	b.say("sim: %d nodes with %d OSDs after %.1f s", nodes, nodes*disksOfANode, time.Since(began).Seconds())
	cmd := exec.CommandContext(ctx, program, "-kubeconfig", kubeconfig, "measure")
	cmd.Stderr = os.Stderr
	out, err := cmd.Output()
	if err != nil {
		return nil, fmt.Errorf("measure with %d nodes: %w", nodes, err)
	}
	l := &looked{}
	if err := json.Unmarshal(out, l); err != nil {
		return nil, fmt.Errorf("measure with %d nodes: %w", nodes, err)
	}
	b.say("sim: with %d OSDs a look takes %.3g ms, writes: %s", nodes*disksOfANode, result.Median(l.Looks), strings.Join(l.Writes, ", "))
	return l, nil
}

// atRest runs the whole operator and returns its VmRSS once it has come to rest.
func atRest(ctx context.Context, program, kubeconfig string) (float64, error) {
	ctx, cancel := context.WithCancel(ctx)
	defer cancel()
	cmd := exec.CommandContext(ctx, program, "-kubeconfig", kubeconfig, "run")
	cmd.Stderr = os.Stderr
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	ended := make(chan error, 1)
	go func() { ended <- cmd.Wait() }()
	defer func() { cancel(); <-ended }()
	// The first lists leave garbage that the runtime gives back after a while.
	select {
	case <-time.After(45 * time.Second):
	case err := <-ended:
		ended <- err
		return 0, fmt.Errorf("the operator ended: %w", err)
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	return residentOf(cmd.Process.Pid)
}
