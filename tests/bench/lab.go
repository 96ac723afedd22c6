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

	"github.com/cairn-storage/cairn/tests/bench/result"
	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
)

// takeLab makes sure that the lab is nobody else's; release removes it.
func (b *bench) takeLab(context.Context) (release func(), err error) {
	if lab.Exists() {
		return nil, errors.New("there is a lab, and what is measured needs one of its own: end it with 'make demo-down'")
	}
	return func() {
		ctx, cancel := context.WithTimeout(context.Background(), 2*time.Minute)
		defer cancel()
		if err := lab.Down(ctx); err != nil {
			b.say("the lab could not be removed: %v", err)
		}
	}, nil
}

const labRounds = 3

// labUp measures how long a lab takes to be Ready when all is cached.
func labUp(ctx context.Context, b *bench) ([]result.Entry, error) {
	var took []float64
	for round := range labRounds + 1 {
		if err := lab.Down(ctx); err != nil {
			return nil, err
		}
		began := time.Now()
		if err := lab.Up(ctx, lab.DefaultOptions()); err != nil {
			return nil, err
		}
		if err := lab.LoadImages(ctx); err != nil {
			return nil, err
		}
		seconds := time.Since(began).Seconds()
		b.say("lab up, round %d: %.1f s", round, seconds)
		if round > 0 { // the first gives the nodes the images
			took = append(took, seconds)
		}
	}
	return []result.Entry{result.New("lab", "lab_up_warm_s", "s", result.Median(took),
		"three nodes Ready with all images; median of %d, %s s", labRounds, result.Spread(took))}, nil
}

const installRounds = 5

// install compares a StorageCluster's way to Ready, and three more OSDs' way into
// it, with the same daemons started by hand.
func install(ctx context.Context, b *bench) ([]result.Entry, error) {
	if err := steps(ctx, story.StartLab, story.Install); err != nil {
		return nil, err
	}
	if err := b.removeCluster(ctx); err != nil {
		return nil, err
	}
	manifest, err := kubectl.Run(ctx, "patch", "--local", "-f", filepath.Join(b.repository, "deploy/examples/cluster.yaml"), "--type=merge",
		"--patch-file="+filepath.Join(b.repository, "tests/lab/cluster-config.yaml"), "-o", "yaml")
	if err != nil {
		return nil, err
	}
	var founded, grown rounds
	for round := range installRounds {
		applied, err := b.applyCluster(ctx, manifest)
		if err != nil {
			return nil, errors.Join(err, b.removeCluster(context.WithoutCancel(ctx)))
		}
		added, err := b.addThree(ctx)
		if err := errors.Join(err, b.removeCluster(ctx)); err != nil {
			return nil, err
		}
		byHand, addedByHand, err := b.byHand(ctx)
		if err != nil {
			return nil, err
		}
		b.say("install, round %d: %.1f s, by hand %.1f s; three more OSDs %.1f s, by hand %.1f s", round+1, applied, byHand, added, addedByHand)
		founded.add(applied, byHand)
		grown.add(added, addedByHand)
	}
	return []result.Entry{founded.entry("install_ratio"), grown.entry("add_three_osds_ratio")}, nil
}

// rounds are seconds that Cairn and the floor took, in turns.
type rounds struct{ ours, floor, ratios []float64 }

func (r *rounds) add(ours, floor float64) {
	r.ours, r.floor, r.ratios = append(r.ours, ours), append(r.floor, floor), append(r.ratios, ours/floor)
}

func (r *rounds) entry(name string) result.Entry {
	return result.New("install", name, "ratio", result.Median(r.ratios), "%.3g s over %.3g s; %d rounds, ratios %s",
		result.Median(r.ours), result.Median(r.floor), len(r.ratios), result.Spread(r.ratios))
}

func steps(ctx context.Context, all ...func(context.Context) (string, error)) error {
	for _, step := range all {
		limit, cancel := context.WithTimeout(ctx, 10*time.Minute)
		_, err := step(limit)
		cancel()
		if err != nil {
			return err
		}
	}
	return nil
}

func (b *bench) applyCluster(ctx context.Context, manifest string) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	began := time.Now()
	if _, err := kubectl.RunWith(ctx, manifest, "apply", "-f", "-"); err != nil {
		return 0, err
	}
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "wait", "storagecluster/"+story.Cluster, "--for=condition=Ready", "--timeout=5m")
	return time.Since(began).Seconds(), err
}

// addThree names the second disk of every node in the resource, and waits until
// the status says that six OSDs are up and in.
func (b *bench) addThree(ctx context.Context) (float64, error) {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	var edits []string
	for i := range 3 {
		edits = append(edits, fmt.Sprintf(`{"op":"add","path":"/spec/storage/nodes/%d/devices/-","value":{"name":"lab-node%d-disk2"}}`, i, i+1))
	}
	began := time.Now()
	cluster := "storagecluster/" + story.Cluster
	if _, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", cluster, "--type=json", "-p", "["+strings.Join(edits, ",")+"]"); err != nil {
		return 0, err
	}
	_, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "wait", cluster, "--for=jsonpath={.status.osds.summary}=6/6", "--timeout=5m")
	return time.Since(began).Seconds(), err
}

// removeCluster deletes the cluster and all that it leaves on purpose: keys, mon
// stores, and what is on the disks.
func (b *bench) removeCluster(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(ctx, 5*time.Minute)
	defer cancel()
	const ofCluster = "cairn.storage/cluster=" + story.Cluster
	for _, args := range [][]string{
		{"delete", "blockpool", "--all", "--timeout=2m"},
		{"delete", "storagecluster", "--all", "--timeout=2m"},
		{"wait", "pods", "--for=delete", "-l", ofCluster, "--timeout=2m"},
		{"delete", "secrets,configmaps,services,deployments", "-l", ofCluster, "--ignore-not-found", "--timeout=1m"},
	} {
		if _, err := kubectl.Run(ctx, append([]string{"-n", kubectl.Namespace}, args...)...); err != nil {
			return err
		}
	}
	nodes, err := lab.Nodes()
	if err != nil {
		return err
	}
	for _, n := range nodes {
		if _, err := n.Exec(ctx, "rm", "-rf", filepath.Join("/var/lib/cairn", kubectl.Namespace, story.Cluster)); err != nil {
			return err
		}
		if err := wipeDisks(ctx, n); err != nil {
			return err
		}
	}
	return untilBlank(ctx)
}

func wipeDisks(ctx context.Context, n *lab.Node) error {
	disks, err := n.Disks()
	if err != nil {
		return err
	}
	for _, disk := range disks {
		// The file behind the disk turns sparse again, the copies of Ceph's labels go too.
		if out, err := exec.CommandContext(ctx, "blkdiscard", "-f", disk.Device).CombinedOutput(); err != nil {
			return fmt.Errorf("wipe %s: %w: %s", disk.Name, err, out)
		}
	}
	return nil
}

// untilBlank waits until the agents have seen that every disk is usable.
func untilBlank(ctx context.Context) error {
	return kubectl.Until(ctx, "every disk to be usable", func() (bool, string) {
		seen, err := kubectl.Run(ctx, "get", "nodestorage", "-o", "jsonpath={range .items[*].status.devices[*]}{.name}={.usable} {end}")
		if err != nil {
			return false, err.Error()
		}
		return strings.Contains(seen, "=true") && !strings.Contains(seen, "=false"), seen
	})
}

// byHand starts the same daemons without Kubernetes, on disks like the lab's, and
// then three more OSDs.
func (b *bench) byHand(ctx context.Context) (seconds, added float64, err error) {
	dir, err := os.MkdirTemp("", "cairn-bench-disks-*")
	if err != nil {
		return 0, 0, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	args := []string{"floor"}
	for i := range 6 {
		device, err := makeLoop(ctx, filepath.Join(dir, fmt.Sprintf("disk%d.img", i)))
		if err != nil {
			return 0, 0, err
		}
		defer func() { _ = exec.Command("losetup", "--detach", device).Run() }()
		args = append(args, device)
	}
	err = b.inRoot(ctx, func(line []byte) error {
		var answer struct{ Seconds, Added float64 }
		err := json.Unmarshal(line, &answer)
		seconds, added = answer.Seconds, answer.Added
		return err
	}, args...)
	return seconds, added, err
}

func makeLoop(ctx context.Context, path string) (string, error) {
	file, err := os.Create(path)
	if err != nil {
		return "", err
	}
	if err := errors.Join(file.Truncate(lab.DefaultOptions().DiskSize), file.Close()); err != nil {
		return "", err
	}
	out, err := exec.CommandContext(ctx, "losetup", "--find", "--show", "--direct-io=on", path).Output()
	if err != nil {
		return "", fmt.Errorf("make a loop device: %w", err)
	}
	return strings.TrimSpace(string(out)), nil
}
