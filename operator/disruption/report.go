package disruption

import (
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
)

// Blocked says which drains wait, and for what; empty when none does.
func (d *Decision) Blocked(v *View) string {
	var blocked []string
	for _, node := range nodesOf(d.Held) {
		here := filter(d.Held, func(h Daemon) bool { return h.Node == node })
		blocked = append(blocked, fmt.Sprintf("node %s: %s", node, d.waits(v, here)))
	}
	if len(blocked) == 0 {
		return ""
	}
	return "cordoned nodes cannot be drained now: " + strings.Join(blocked, "; ")
}

func (d *Decision) waits(v *View, here []Daemon) string {
	var parts []string
	if mgrs := filter(here, func(h Daemon) bool { return h.Kind == mgr.Component }); len(mgrs) > 0 {
		parts = append(parts, List(mgrs)+" stays until another mgr stands by")
	}
	if mons := filter(here, func(h Daemon) bool { return h.Kind == mon.Component && !v.sparesMons() }); len(mons) > 0 {
		parts = append(parts, fmt.Sprintf("%s stays, because the mons would have no quorum without it. Set spec.mon.count to 3, or delete its pod yourself and do without the cluster meanwhile", List(mons)))
	}
	if stored := filter(here, func(h Daemon) bool { return h.Kind != mgr.Component && (h.Kind != mon.Component || v.sparesMons()) }); len(stored) > 0 {
		parts = append(parts, List(stored)+number(stored, " stays", " stay")+" until "+d.Waits)
	}
	return strings.Join(parts, ", and ")
}

// HeldNodes are the cordoned nodes whose drain waits.
func (d *Decision) HeldNodes() []string { return nodesOf(d.Held) }

// Emptied says which nodes were drained and what starts when they are uncordoned;
// empty when none was.
func Emptied(v *View) string {
	stopped := filter(v.pinned(), func(d Daemon) bool { return d.Pod == nil && v.cordoned(d.Node) })
	var said []string
	for _, name := range nodesOf(stopped) {
		here := filter(stopped, func(d Daemon) bool { return d.Node == name })
		do := "when it takes pods again"
		if node := v.node(name); node != nil && node.Spec.Unschedulable {
			do = fmt.Sprintf("once you run 'kubectl uncordon %s'", name)
		}
		text := fmt.Sprintf("node %s is drained: %s %s", name, List(here)+number(here, " starts", " start"), do)
		if record := recordOf(v.Cluster.Status.Drained, name); record != nil {
			text += fmt.Sprintf(". From %s on Ceph makes its data anew elsewhere", clock(record.RebuildAt.Time))
		}
		said = append(said, text)
	}
	return strings.Join(said, "; ")
}

// EmptiedPod reports whether a pod cannot start because its node was cordoned.
func EmptiedPod(pod *corev1.Pod, nodes []corev1.Node, tolerations []corev1.Toleration) bool {
	name := pod.Spec.NodeSelector[corev1.LabelHostname]
	return slices.ContainsFunc(nodes, func(node corev1.Node) bool {
		return name != "" && node.Labels[corev1.LabelHostname] == name && Cordoned(&node, tolerations)
	})
}

const (
	// settled is how long a pod is ready before a silent daemon in it says something
	// of its node: daemons need a moment to start.
	settled = 15 * time.Second
	// election is how long a mon may be out of quorum, while others start and they elect anew.
	election = 10 * time.Second
)

// Lost says which nodes do not answer, which daemons that concerns and what comes
// of it; empty when all nodes do. Kubernetes gives a node up after a minute or so:
// Ceph knows sooner, of a mon first.
func Lost(v *View) string {
	var lost []string
	pinned := v.pinned()
	on := onNodes(pinned)
	for _, name := range nodesOf(pinned) {
		here := on[name]
		down := filter(here, func(d Daemon) bool { return !d.Up })
		silent := filter(down, v.silent)
		node := v.node(name)
		switch {
		case node == nil:
			lost = append(lost, fmt.Sprintf("node %s is not in Kubernetes any more: it runs %s", name, List(here)))
		case !kube.NodeAnswers(node):
			lost = append(lost, notReady(node)+": "+v.concerns(here, down))
		case v.Unknown != "":
		case len(silent) == len(here):
			lost = append(lost, fmt.Sprintf("node %s is silent: Kubernetes calls it ready and its pods run, but it hangs or its network is cut: %s", name, v.concerns(here, down)))
		case slices.ContainsFunc(silent, v.missed):
			lost = append(lost, fmt.Sprintf("on node %s, which Kubernetes calls ready, %s: it hangs or cannot be reached", name, v.concerns(here, down)))
		}
	}
	if len(lost) == 0 {
		return ""
	}
	return strings.Join(lost, "; ") + ". They go on by themselves when the node is back. If it does not come back, repair it, or take it out of spec.storage.nodes: " +
		"another ready node gets its mon after spec.mon.failoverAfter, and Ceph makes its data anew on other nodes"
}

func notReady(node *corev1.Node) string {
	if c := kube.ReadyCondition(node); c != nil {
		return fmt.Sprintf("node %s is not ready since %s (%s: %s)", node.Name, clock(c.LastTransitionTime.Time), c.Reason, c.Message)
	}
	return fmt.Sprintf("node %s is not ready", node.Name)
}

// concerns says what of the daemons of a lost node is known.
func (v *View) concerns(here, down []Daemon) string {
	switch {
	case v.Unknown != "":
		return "it runs " + List(here)
	case len(down) == 0:
		return List(here) + number(here, " still answers", " still answer")
	case len(down) == len(here):
		return List(down) + number(down, " does", " do") + " not answer"
	}
	up := filter(here, func(d Daemon) bool { return d.Up })
	return List(down) + number(down, " does", " do") + " not answer, " + List(up) + number(up, " still answers", " still answer")
}

// silent reports whether a daemon does not answer though its pod runs for a while.
func (v *View) silent(d Daemon) bool {
	return d.Pod != nil && d.Pod.DeletionTimestamp == nil && slices.ContainsFunc(d.Pod.Status.Conditions, func(c corev1.PodCondition) bool {
		return c.Type == corev1.PodReady && c.Status == corev1.ConditionTrue && v.Now.Sub(c.LastTransitionTime.Time) >= settled
	})
}

// missed reports whether a daemon is a mon that no election explains the absence of.
func (v *View) missed(d Daemon) bool {
	return d.Kind == mon.Component && v.Now.Sub(d.Since) >= election
}

func clock(t time.Time) string { return t.UTC().Format(time.TimeOnly + " MST") }

// number is a verb's form for daemons.
func number(daemons []Daemon, one, more string) string {
	if len(daemons) == 1 {
		return one
	}
	return more
}
