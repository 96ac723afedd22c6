// Package disruption decides which daemons may be evicted: one failure domain at
// a time, and only while nothing is at risk. docs/drain.md says what a user sees.
package disruption

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// View is all that a decision rests on.
type View struct {
	Now     time.Time
	Cluster *v1alpha1.StorageCluster
	Nodes   []corev1.Node
	Pools   []v1alpha1.BlockPool
	// Daemons are the mons, the OSDs and the mgrs.
	Daemons []Daemon
	Budgets map[string]*policyv1.PodDisruptionBudget
	// Unknown is why Ceph cannot be asked; empty when it was.
	Unknown string
	// Unclean is what keeps the PGs from being clean; empty when all are.
	Unclean string
	// Asked are the OSDs of which Ceph was asked whether they may be down together,
	// NotOK is its answer.
	Asked []int
	NotOK string
}

// Daemon is a mon, an OSD or a mgr, and where it is.
type Daemon struct {
	// Kind is the component, Name the instance: osd and 3.
	Kind, Name string
	ID         int
	Node       string
	// Up is true while Ceph says that it does its work.
	Up bool
	// Since is since when it does not, where that is known.
	Since time.Time
	// In and NoOut are of OSDs: data is placed on it, and Ceph is told to keep it so.
	In, NoOut bool
	// Gone is an OSD that is down and out: what it held is made anew elsewhere.
	Gone bool
	// Portable OSDs may run on any node: Node is where they are now, empty while they are nowhere.
	Portable bool
	// Pod is nil while none is running.
	Pod *corev1.Pod
}

// String is the daemon as Ceph's tools call it.
func (d Daemon) String() string {
	if d.Kind == osd.Component {
		return d.Kind + "." + d.Name
	}
	return d.Kind + " " + d.Name
}

// serves reports whether a daemon does its work and goes on doing it: Kubernetes
// knows of an end before Ceph does, and of a start too.
func (d Daemon) serves() bool { return d.Up && d.Pod != nil }

func (v *View) of(kinds ...string) []Daemon {
	return filter(v.Daemons, func(d Daemon) bool { return slices.Contains(kinds, d.Kind) && !d.Gone })
}

// stored are the daemons that are pinned to a node by what they keep there.
func (v *View) stored() []Daemon { return v.of(mon.Component, osd.Component) }

// pinned are those of stored that are on a node, and the OSDs that are gone.
func (v *View) pinned() []Daemon {
	return filter(v.Daemons, func(d Daemon) bool { return d.Kind != mgr.Component && d.Node != "" })
}

func (v *View) node(name string) *corev1.Node {
	for i := range v.Nodes {
		if v.Nodes[i].Name == name {
			return &v.Nodes[i]
		}
	}
	return nil
}

// Cordoned reports whether a node was closed to pods such as these by a person or
// a program: that is how every drain begins.
func Cordoned(node *corev1.Node, tolerations []corev1.Toleration) bool {
	if node == nil || node.Spec.Unschedulable {
		return node != nil
	}
	return slices.ContainsFunc(node.Spec.Taints, func(taint corev1.Taint) bool {
		return taint.Effect != corev1.TaintEffectPreferNoSchedule && !strings.HasPrefix(taint.Key, "node.kubernetes.io/") &&
			!strings.HasPrefix(taint.Key, "node.cloudprovider.kubernetes.io/") && !kube.Tolerated(taint, tolerations)
	})
}

func (v *View) cordoned(name string) bool {
	return Cordoned(v.node(name), v.Cluster.Spec.Placement.Tolerations)
}

// kinds of failure domains, from small to large.
var kinds = []string{"host", "rack", "zone", "region"}

// Kind of failure domain that is drained as a whole: the largest that no pool has
// two replicas in. A pool over OSDs counts as one over hosts: of those Ceph is
// asked each time.
func (v *View) Kind() string {
	if len(v.Pools) == 0 {
		return kinds[0]
	}
	least := len(kinds) - 1
	for i := range v.Pools {
		least = min(least, max(0, slices.Index(kinds, v.Pools[i].Spec.FailureDomain)))
	}
	return kinds[least]
}

// domain that a node is in. One without a label is a domain of its own.
func (v *View) domain(name string) string {
	kind := v.Kind()
	if node := v.node(name); node != nil {
		if value := node.Labels[ceph.LevelLabel(kind)]; value != "" && kind != "host" {
			return kind + " " + value
		}
	}
	return "node " + name
}

func (v *View) domains(daemons []Daemon) []string {
	var domains []string
	for _, d := range daemons {
		domains = append(domains, v.domain(d.Node))
	}
	slices.Sort(domains)
	return slices.Compact(domains)
}

func filter(daemons []Daemon, keep func(Daemon) bool) (kept []Daemon) {
	for i := range daemons {
		if keep(daemons[i]) {
			kept = append(kept, daemons[i])
		}
	}
	return kept
}

// onNodes are daemons by their nodes.
func onNodes(daemons []Daemon) map[string][]Daemon {
	nodes := map[string][]Daemon{}
	for i := range daemons {
		nodes[daemons[i].Node] = append(nodes[daemons[i].Node], daemons[i])
	}
	return nodes
}

func names(daemons []Daemon) []string {
	out := make([]string, 0, len(daemons))
	for _, d := range daemons {
		out = append(out, d.Name)
	}
	slices.Sort(out)
	return out
}

// nodesOf daemons, each once, in order.
func nodesOf(daemons []Daemon) []string {
	var nodes []string
	for _, d := range daemons {
		nodes = append(nodes, d.Node)
	}
	slices.Sort(nodes)
	return slices.Compact(nodes)
}

// List is daemons as a sentence has them: "mon a, osd.0 and osd.3".
func List(daemons []Daemon) string {
	sorted := slices.SortedFunc(slices.Values(daemons), func(a, b Daemon) int {
		return cmp.Or(strings.Compare(a.Kind, b.Kind), cmp.Compare(a.ID, b.ID), strings.Compare(a.Name, b.Name))
	})
	words := make([]string, 0, len(sorted))
	for _, d := range sorted {
		words = append(words, d.String())
	}
	return and(words)
}

func and(words []string) string {
	if len(words) < 2 {
		return strings.Join(words, "")
	}
	return fmt.Sprintf("%s and %s", strings.Join(words[:len(words)-1], ", "), words[len(words)-1])
}

// byNode is daemons with their nodes: "mon a and osd.0 of node node1".
func byNode(daemons []Daemon) string {
	var words []string
	on := onNodes(daemons)
	for _, node := range nodesOf(daemons) {
		if node == "" {
			words = append(words, List(on[node]))
			continue
		}
		words = append(words, List(on[node])+" of node "+node)
	}
	return and(words)
}

// BudgetNames of a cluster's PodDisruptionBudgets: of mons and OSDs together, of
// mgrs, and of mons that cannot be spared.
func storageBudget(c *v1alpha1.StorageCluster) string { return c.Name + "-storage" }
func mgrBudget(c *v1alpha1.StorageCluster) string     { return c.Name + "-" + mgr.Component }
func monBudget(c *v1alpha1.StorageCluster) string     { return c.Name + "-" + mon.Component }
