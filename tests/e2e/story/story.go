// Package story is the main job from end to end, in steps that check
// themselves: the demo shows them and the end-to-end tests run them.
package story

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/lab"
)

// Cluster and Pool are the names in deploy/examples.
const (
	Cluster = "main"
	Pool    = "fast"
)

// Step is one step: what it does, and a sentence on what it saw.
type Step struct {
	Name string
	Do   func(ctx context.Context) (saw string, err error)
}

// Steps are the whole story, in order.
func Steps() []Step {
	return []Step{
		{"three-node Kubernetes", StartLab},
		{"install Cairn (one manifest)", Install},
		{"StorageCluster: 3 mons, 2 mgrs, 3 OSDs", MakeCluster},
		{"BlockPool and its StorageClass", MakePool},
		{"PostgreSQL on a claim, with data", StartPostgres},
		{"pod moves to another node, data intact", MovePod},
		{"one OSD is killed, writes go on", KillOSD},
		{"a disk is added by editing the resource", AddDisk},
		{"the claim is expanded online", Expand},
	}
}

// StartLab brings up Kubernetes with Cairn's images in place.
func StartLab(ctx context.Context) (string, error) {
	if err := lab.Up(ctx, lab.DefaultOptions()); err != nil {
		return "", err
	}
	if err := lab.LoadImages(ctx); err != nil {
		return "", err
	}
	return kubectl.Run(ctx, "get", "nodes", "-o", "custom-columns=:.metadata.name,:.status.nodeInfo.kubeletVersion", "--no-headers")
}

// Install applies the one manifest and waits for the operator and the agents.
func Install(ctx context.Context) (string, error) {
	if _, err := kubectl.Run(ctx, "apply", "--server-side", "-f", repository("deploy/install.yaml")); err != nil {
		return "", err
	}
	for _, workload := range []string{"deployment/cairn-operator", "daemonset/cairn-agent"} {
		if _, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "status", workload, "--timeout=2m"); err != nil {
			return "", err
		}
	}
	return kubectl.Run(ctx, "get", "nodestorage", "-o", "custom-columns=:.metadata.name,:.status.summary.devices", "--no-headers")
}

// MakeCluster applies the example with the lab's Ceph options and waits until it is Ready.
func MakeCluster(ctx context.Context) (string, error) {
	cluster, err := kubectl.Run(ctx, "patch", "--local", "-f", repository("deploy/examples/cluster.yaml"), "--type=merge",
		"--patch-file="+repository("tests/lab/cluster-config.yaml"), "-o", "yaml")
	if err != nil {
		return "", err
	}
	if _, err := kubectl.RunWith(ctx, cluster, "apply", "--server-side", "-f", "-"); err != nil {
		return "", err
	}
	if err := UntilReady(ctx, "storagecluster/"+Cluster); err != nil {
		return "", err
	}
	return kubectl.Get(ctx, kubectl.Namespace, "storagecluster/"+Cluster, "{.status.health.status}, mons {.status.mons.summary}, OSDs {.status.osds.summary}, {.status.capacity.total} raw")
}

// UntilReady waits until a resource of Cairn's is Ready for its newest spec.
func UntilReady(ctx context.Context, object string) error {
	const path = `{.metadata.generation}/{.status.observedGeneration} {.status.conditions[?(@.type=="Ready")].status} {.status.conditions[?(@.type=="Ready")].message}`
	return kubectl.Until(ctx, object+" to be Ready", func() (bool, string) {
		seen, err := kubectl.Get(ctx, kubectl.Namespace, object, path)
		if err != nil {
			return false, err.Error()
		}
		generations, rest, _ := strings.Cut(seen, " ")
		want, have, _ := strings.Cut(generations, "/")
		return want == have && strings.HasPrefix(rest, "True "), rest
	})
}

// MakePool applies the example and waits for its StorageClass and the driver.
func MakePool(ctx context.Context) (string, error) {
	if _, err := kubectl.Run(ctx, "apply", "-f", repository("deploy/examples/pool.yaml")); err != nil {
		return "", err
	}
	if err := UntilReady(ctx, "blockpool/"+Pool); err != nil {
		return "", err
	}
	for _, workload := range []string{"deployment/cairn-csi-controller", "daemonset/cairn-csi-node"} {
		if _, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "rollout", "status", workload, "--timeout=2m"); err != nil {
			return "", err
		}
	}
	if err := untilOnEveryNode(ctx, "daemonset/cairn-csi-attach"); err != nil {
		return "", err
	}
	return kubectl.Get(ctx, "", "storageclass/"+Pool, "StorageClass {.metadata.name} of {.provisioner}")
}

// untilOnEveryNode waits until a DaemonSet is ready on every node.
func untilOnEveryNode(ctx context.Context, daemonSet string) error {
	return kubectl.Until(ctx, daemonSet+" to be ready on every node", func() (bool, string) {
		seen, err := kubectl.Get(ctx, kubectl.Namespace, daemonSet, "{.status.desiredNumberScheduled}/{.status.numberReady}")
		if err != nil {
			return false, err.Error()
		}
		want, have, _ := strings.Cut(seen, "/")
		return want == have && want != "0", seen
	})
}

// AddDisk names one more device in the spec and waits until the capacity has grown.
func AddDisk(ctx context.Context) (string, error) {
	const capacity = "{.status.capacity.total}"
	before, err := kubectl.Get(ctx, kubectl.Namespace, "storagecluster/"+Cluster, capacity+" {.status.osds.summary}")
	if err != nil {
		return "", err
	}
	if strings.HasSuffix(before, "4/4") {
		return "there already: " + before, nil
	}
	patch := `[{"op":"add","path":"/spec/storage/nodes/0/devices/-","value":{"name":"lab-node1-disk2"}}]`
	if _, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "patch", "storagecluster", Cluster, "--type=json", "-p", patch); err != nil {
		return "", err
	}
	if err := kubectl.UntilField(ctx, kubectl.Namespace, "storagecluster/"+Cluster, capacity+" {.status.osds.summary}", "40Gi 4/4"); err != nil {
		return "", err
	}
	return before + " OSDs before, 40Gi 4/4 OSDs after", nil
}

// KillOSD kills the process of an OSD while the database writes.
func KillOSD(ctx context.Context) (string, error) {
	before, err := transactions(ctx)
	if err != nil {
		return "", err
	}
	load := kubectl.Command(ctx, Postgres.in("pgbench", "-n", "-h", "/tmp", "-c", "4", "-j", "2", "-T", "10", "-P", "1", "postgres")...)
	var out strings.Builder
	load.Stdout, load.Stderr = &out, &out
	if err := load.Start(); err != nil {
		return "", fmt.Errorf("start pgbench: %w", err)
	}
	node, err := killOSD(ctx, 0)
	if err := errors.Join(err, load.Wait()); err != nil {
		return "", fmt.Errorf("pgbench while osd.0 on %s was killed: %w: %s", node, err, out.String())
	}
	after, err := transactions(ctx)
	if err != nil {
		return "", err
	}
	if after <= before {
		return "", fmt.Errorf("%d transactions before the kill and %d after: writes did not go on", before, after)
	}
	if err := UntilReady(ctx, "storagecluster/"+Cluster); err != nil {
		return "", err
	}
	return fmt.Sprintf("osd.0 on %s killed under pgbench: %d transactions committed meanwhile, none failed; it came back by itself", node, after-before), nil
}

// killOSD kills an OSD's process on its node.
func killOSD(ctx context.Context, id int) (node string, err error) {
	node, err = kubectl.Run(ctx, "-n", kubectl.Namespace, "get", "pods", "-l", fmt.Sprintf("app.kubernetes.io/component=osd,app.kubernetes.io/instance=%d", id),
		"-o", "jsonpath={.items[0].spec.nodeName}")
	if err != nil {
		return "", err
	}
	return node, KillOnNode(ctx, node, fmt.Sprintf("^ceph-osd -f -i %d ", id))
}

// KillOnNode kills the processes of a node whose command line matches a pattern.
func KillOnNode(ctx context.Context, node, pattern string) error {
	n, err := lab.Get(node)
	if err != nil {
		return err
	}
	kill, err := n.Command(ctx, "pkill", "-KILL", "-f", pattern)
	if err != nil {
		return err
	}
	if out, err := kill.CombinedOutput(); err != nil {
		return fmt.Errorf("kill %s on %s: %w: %s", pattern, node, err, out)
	}
	return nil
}

// Example returns one of deploy/examples.
func Example(name string) (string, error) {
	text, err := os.ReadFile(repository("deploy/examples/" + name))
	return string(text), err
}

// repository returns a path in the repository.
func repository(path string) string {
	out, err := exec.Command("go", "env", "GOMOD").Output()
	if err != nil {
		wd, _ := os.Getwd()
		return filepath.Join(wd, path)
	}
	return filepath.Join(filepath.Dir(strings.TrimSpace(string(out))), path)
}
