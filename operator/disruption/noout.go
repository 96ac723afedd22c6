package disruption

import (
	"slices"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// The OSDs of a drained node are expected back: Ceph is told not to make their data
// anew elsewhere (noout), for a time. The status records which nodes that is said
// of, and until when, before Ceph is told, and forgets one only once Ceph shows that
// it is no longer so: an operator that restarts goes on where it was, and what a
// person told Ceph by hand stays.

// Drained are the nodes whose OSDs are stopped for a drain, or were and are not all
// back yet.
func Drained(v *View) []v1alpha1.DrainedNode {
	had := v.Cluster.Status.Drained
	if v.Unknown != "" {
		return had
	}
	var drained []v1alpha1.DrainedNode
	osds := v.osdsOfNodes()
	on := onNodes(osds)
	for _, node := range append(nodesOf(osds), gone(had, osds)...) {
		here := on[node]
		noOut := slices.ContainsFunc(here, func(d Daemon) bool { return d.NoOut })
		if record := recordOf(had, node); record != nil {
			if noOut || slices.ContainsFunc(here, missing) {
				drained = append(drained, *record)
			}
			continue
		}
		if after := v.rebuildAfter(); after > 0 && !noOut && slices.ContainsFunc(here, v.stoppedByDrain) {
			since := v.Now.Truncate(time.Second)
			drained = append(drained, v1alpha1.DrainedNode{Node: node, Since: metav1.NewTime(since), RebuildAt: metav1.NewTime(since.Add(after))})
		}
	}
	return drained
}

// gone are recorded nodes without any OSD left: their records end.
func gone(had []v1alpha1.DrainedNode, osds []Daemon) (nodes []string) {
	for _, record := range had {
		if !slices.Contains(nodesOf(osds), record.Node) {
			nodes = append(nodes, record.Node)
		}
	}
	return nodes
}

// NoOut is what Ceph is to be told of a node's OSDs.
type NoOut struct {
	Node string
	On   bool
	// Until is when it is taken back at the latest.
	Until time.Time
}

// NoOuts are the changes that are due. They rest on what the status says already.
func NoOuts(v *View) (changes []NoOut) {
	if v.Unknown != "" {
		return nil
	}
	for _, record := range v.Cluster.Status.Drained {
		here := filter(v.osdsOfNodes(), func(d Daemon) bool { return d.Node == record.Node })
		is := slices.ContainsFunc(here, func(d Daemon) bool { return d.NoOut })
		want := v.Now.Before(record.RebuildAt.Time) && slices.ContainsFunc(here, missing)
		if is != want {
			changes = append(changes, NoOut{Node: record.Node, On: want, Until: record.RebuildAt.Time})
		}
	}
	return changes
}

// osdsOfNodes are those that come back on their node, and not on another one.
func (v *View) osdsOfNodes() []Daemon {
	return filter(v.of(osd.Component), func(d Daemon) bool { return !d.Portable })
}

// missing OSDs are those whose data would be made anew elsewhere.
func missing(d Daemon) bool { return d.In && !d.Up }

// stoppedByDrain reports whether an OSD is down because its node was emptied: not
// one that ends by itself while its node takes no new pods.
func (v *View) stoppedByDrain(d Daemon) bool {
	node := v.node(d.Node)
	return missing(d) && node != nil && v.cordoned(d.Node) && (d.Pod == nil || !kube.NodeAnswers(node))
}

func (v *View) rebuildAfter() time.Duration {
	if after := v.Cluster.Spec.Drain.RebuildAfter; after != nil {
		return after.Duration
	}
	return 30 * time.Minute // the API's default
}

func recordOf(records []v1alpha1.DrainedNode, node string) *v1alpha1.DrainedNode {
	for i := range records {
		if records[i].Node == node {
			return &records[i]
		}
	}
	return nil
}
