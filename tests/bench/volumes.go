package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strconv"
	"strings"
	"time"

	"github.com/cairn-storage/cairn/tests/bench/result"
	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
	"github.com/cairn-storage/cairn/tests/verifier"
)

const (
	// made is the label of what a measurement makes in the lab.
	made      = "cairn-bench"
	namespace = "default"

	kills      = 5
	volumes    = 100
	volumePods = 4
)

func (b *bench) story(ctx context.Context) error {
	return steps(ctx, story.StartLab, story.Install, story.MakeCluster, story.MakePool)
}

// claim is the YAML of a claim of the story's pool.
func claim(name string) string {
	return fmt.Sprintf(`---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s, labels: {app: %s}}
spec:
  accessModes: [ReadWriteOnce]
  storageClassName: %s
  resources: {requests: {storage: 1Gi}}
`, name, made, story.Pool)
}

// pod is the YAML of a pod with claims mounted below /data; no node means any.
func pod(name, node, image string, command []string, claims ...string) string {
	var mounts, sources []string
	for i, c := range claims {
		path := "/data"
		if len(claims) > 1 {
			path += strconv.Itoa(i)
		}
		mounts = append(mounts, fmt.Sprintf("{name: %s, mountPath: %s}", c, path))
		sources = append(sources, fmt.Sprintf("{name: %s, persistentVolumeClaim: {claimName: %s}}", c, c))
	}
	args, _ := json.Marshal(command) // JSON is YAML
	selector := "{}"
	if node != "" {
		selector = "{kubernetes.io/hostname: " + node + "}"
	}
	return fmt.Sprintf(`---
apiVersion: v1
kind: Pod
metadata: {name: %s, labels: {app: %s}}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 1
  nodeSelector: %s
  containers:
    - {name: main, image: "%s", imagePullPolicy: IfNotPresent, command: %s, volumeMounts: [%s]}
  volumes: [%s]
`, name, made, selector, image, args, strings.Join(mounts, ", "), strings.Join(sources, ", "))
}

func apply(ctx context.Context, yaml string) error {
	_, err := kubectl.RunWith(ctx, yaml, "-n", namespace, "apply", "-f", "-")
	return err
}

// sweep deletes what a measurement made and waits until its volumes are gone.
func sweep(ctx context.Context) error {
	ctx, cancel := context.WithTimeout(context.WithoutCancel(ctx), 5*time.Minute)
	defer cancel()
	for _, kind := range []string{"pods", "persistentvolumeclaims"} {
		if _, err := kubectl.Run(ctx, "-n", namespace, "delete", kind, "-l", "app="+made, "--timeout=4m"); err != nil {
			return err
		}
	}
	return volumesGone(ctx)
}

// volumesGone waits until no volume of what a measurement made is left.
func volumesGone(ctx context.Context) error {
	return kubectl.Until(ctx, "the volumes to be deleted", func() (bool, string) {
		left, err := kubectl.Run(ctx, "get", "persistentvolumes", "-o", "jsonpath={.items[?(@.spec.claimRef.namespace=='"+namespace+"')].spec.claimRef.name}")
		if err != nil {
			return false, err.Error()
		}
		return !strings.Contains(left, made), left
	})
}

// stalls measures how long writes stand still while the node plugin, and then
// the data path, is killed.
func stalls(ctx context.Context, b *bench) (entries []result.Entry, err error) {
	if err := b.story(ctx); err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sweep(ctx)) }()
	if err := apply(ctx, claim(made+"-kill")); err != nil {
		return nil, err
	}
	control, err := b.verify(ctx, "control", 40*time.Second, func(context.Context, string) error { return nil })
	if err != nil {
		return nil, fmt.Errorf("control run: %w", err)
	}
	for _, victim := range victims {
		killed, err := b.verify(ctx, victim.name, 60*time.Second, func(ctx context.Context, node string) error { return b.kill(ctx, victim, node) })
		if err != nil {
			return entries, err
		}
		entries = append(entries, result.New("kill", victim.name+"_kill_stall_ms", "ms", float64(killed.LongestStallMillis),
			"%s killed %d times within 60 s, %d writes acknowledged, none failed or lost; without kills the longest was %d ms within 40 s",
			victim.what, kills, killed.Acknowledged, control.LongestStallMillis))
	}
	return entries, nil
}

// verify runs the verifier in a pod, and meanwhile to its node what is given.
func (b *bench) verify(ctx context.Context, name string, duration time.Duration, meanwhile func(ctx context.Context, node string) error) (*verifier.Result, error) {
	ctx, cancel := context.WithTimeout(ctx, duration+4*time.Minute)
	defer cancel()
	name = made + "-" + name
	command := []string{"/verifier", "--path", "/data/v", "--size", "67108864", "--duration", duration.String()}
	if err := apply(ctx, pod(name, "", "cairn.storage/verifier:1", command, made+"-kill")); err != nil {
		return nil, err
	}
	const phase = "{.status.phase}"
	if err := kubectl.UntilField(ctx, namespace, "pod/"+name, phase, "Running"); err != nil {
		return nil, err
	}
	began := time.Now()
	node, err := kubectl.Get(ctx, namespace, "pod/"+name, "{.spec.nodeName}")
	if err != nil {
		return nil, err
	}
	if err := meanwhile(ctx, node); err != nil {
		return nil, err
	}
	if since := time.Since(began); since > duration-2*time.Second {
		return nil, fmt.Errorf("the verifier had stopped writing: %s", since)
	}
	if err := kubectl.Until(ctx, "the verifier to end", func() (bool, string) {
		seen, err := kubectl.Get(ctx, namespace, "pod/"+name, phase)
		return err == nil && (seen == "Succeeded" || seen == "Failed"), seen
	}); err != nil {
		return nil, err
	}
	log, err := kubectl.Run(ctx, "-n", namespace, "logs", name)
	if err != nil {
		return nil, err
	}
	if _, err := kubectl.Run(ctx, "-n", namespace, "delete", "pod", name, "--timeout=1m"); err != nil {
		return nil, err
	}
	var r verifier.Result
	if err := json.Unmarshal([]byte(log), &r); err != nil {
		return nil, fmt.Errorf("read the verifier's answer: %w: %s", err, log)
	}
	b.say("%s: %+v", name, r)
	if !r.Sound() {
		return &r, fmt.Errorf("the verifier found the volume unsound: %s", log)
	}
	return &r, nil
}

const pluginPattern = "^cairn-csi node"

// victim is a process of the node side that is killed under I/O. One without a
// DaemonSet has a supervisor of its own.
type victim struct{ name, what, pattern, daemonSet string }

var victims = []victim{
	{"plugin", "cairn-csi node", pluginPattern, "cairn-csi-node"},
	{"datapath", "cairn-csi attach", "^cairn-csi attach", ""},
}

// kill kills a process again and again. The kubelet restarts it at once only the
// first time; later its pod is made anew, which is a restart too and does not
// wait for the kubelet's back-off.
func (b *bench) kill(ctx context.Context, v victim, node string) error {
	for i := range kills {
		if err := kubectl.Until(ctx, v.what+" to run, and to be killed", func() (bool, string) {
			err := story.KillOnNode(ctx, node, v.pattern)
			return err == nil, fmt.Sprint(err)
		}); err != nil {
			return err
		}
		b.say("killed %s on %s (%d of %d)", v.what, node, i+1, kills)
		time.Sleep(2 * time.Second)
		if i == 0 || v.daemonSet == "" {
			continue
		}
		if _, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "delete", "pods", "-l", "app.kubernetes.io/instance="+v.daemonSet,
			"--field-selector=spec.nodeName="+node, "--grace-period=0", "--force"); err != nil {
			return err
		}
	}
	return nil
}

// rss measures what Cairn's processes hold in memory with 100 volumes.
func rss(ctx context.Context, b *bench) (entries []result.Entry, err error) {
	if err := b.story(ctx); err != nil {
		return nil, err
	}
	const node = "node1"
	if left, err := kubectl.Run(ctx, "get", "volumeattachments", "-o", "name"); err != nil || left != "" {
		return nil, errors.Join(err, fmt.Errorf("volumes are attached already: %s", left))
	}
	before, err := resident(ctx, node, "^cairn-csi attach")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, sweep(ctx)) }()
	took, err := b.attachMany(ctx, node)
	if err != nil {
		return nil, err
	}
	time.Sleep(5 * time.Second) // what served the attaching comes to rest
	attach, err := resident(ctx, node, "^cairn-csi attach")
	if err != nil {
		return nil, err
	}
	plugin, err := resident(ctx, node, pluginPattern)
	if err != nil {
		return nil, err
	}
	operator, operators, err := largest(ctx, "^cairn-operator")
	if err != nil {
		return nil, err
	}
	controller, controllers, err := largest(ctx, "^cairn-csi controller")
	if err != nil {
		return nil, err
	}
	entry := func(name string, value float64, note string, args ...any) {
		entries = append(entries, result.New("rss", name, "MiB", value, note, args...))
	}
	entry("rss_operator_mib", operator, "%d volumes; the leader of %s", volumes, operators)
	entry("rss_controller_mib", controller, "%d volumes; the leader of %s", volumes, controllers)
	entry("rss_node_mib", plugin+attach, "%d volumes on the node: node plugin %.1f, attach process %.1f; %s", volumes, plugin, attach, took)
	entry("rss_per_volume_mib", (attach-before)/volumes, "attach process %.1f with %d volumes, %.1f with none", attach, volumes, before)
	return entries, nil
}

// attachMany binds the claims and then attaches all of them to one node.
func (b *bench) attachMany(ctx context.Context, node string) (string, error) {
	ctx, cancel := context.WithTimeout(ctx, 10*time.Minute)
	defer cancel()
	var claims, pods strings.Builder
	for p := range volumePods {
		var names []string
		for i := range volumes / volumePods {
			names = append(names, fmt.Sprintf("%s-%d-%d", made, p, i))
			claims.WriteString(claim(names[i]))
		}
		pods.WriteString(pod(fmt.Sprintf("%s-%d", made, p), node, "cairn.storage/pause:1", []string{"/pause"}, names...))
	}
	began := time.Now()
	if err := apply(ctx, claims.String()); err != nil {
		return "", err
	}
	if _, err := kubectl.Run(ctx, "-n", namespace, "wait", "persistentvolumeclaims", "-l", "app="+made, "--for=jsonpath={.status.phase}=Bound", "--timeout=5m"); err != nil {
		return "", err
	}
	bound := time.Since(began)
	b.say("%d claims are bound after %.1f s", volumes, bound.Seconds())
	began = time.Now()
	if err := apply(ctx, pods.String()); err != nil {
		return "", err
	}
	if _, err := kubectl.Run(ctx, "-n", namespace, "wait", "pods", "-l", "app="+made, "--for=condition=Ready", "--timeout=9m"); err != nil {
		return "", err
	}
	return fmt.Sprintf("claims bound in %.1f s, attached and mounted in %.1f s more", bound.Seconds(), time.Since(began).Seconds()), nil
}

// resident is the VmRSS, in MiB, of the processes of a node whose command line
// matches; not of those that they started.
func resident(ctx context.Context, node, pattern string) (float64, error) {
	n, err := lab.Get(node)
	if err != nil {
		return 0, err
	}
	out, err := n.Exec(ctx, "sh", "-c", `for pid in $(pgrep -f "$1"); do cat /proc/$pid/status; done`, "sh", pattern)
	if err != nil {
		return 0, err
	}
	total, err := vmRSS(out)
	if err != nil {
		return 0, fmt.Errorf("what runs on %s and matches %s: %w", node, pattern, err)
	}
	return total, nil
}

// largest is the greatest VmRSS of a program over all nodes, its leader's, and a
// sentence on all replicas.
func largest(ctx context.Context, pattern string) (float64, string, error) {
	nodes, err := lab.Nodes()
	if err != nil {
		return 0, "", err
	}
	var most float64
	var seen []string
	for _, n := range nodes {
		// A node without a replica is no error.
		if mib, err := resident(ctx, n.Name, pattern); err == nil {
			most, seen = max(most, mib), append(seen, fmt.Sprintf("%.1f", mib))
		}
	}
	if len(seen) == 0 {
		return 0, "", fmt.Errorf("nothing runs that matches %s", pattern)
	}
	return most, fmt.Sprintf("%d replicas (%s MiB)", len(seen), strings.Join(seen, ", ")), nil
}
