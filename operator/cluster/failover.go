package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// A mon that goes leaves the monmap first, then its Deployment and its Service are
// deleted, one mon at a time; the one that takes its place joins after that. The
// other order would need a majority of one more mon than there is, for a moment.
// Since when a mon is out of quorum is written on its Service, so that an operator
// that restarts does not begin to count anew.

// Retiring is a mon that goes, and why.
type Retiring struct {
	mon.Mon
	Why string
}

// where it is, as far as that is known.
func (r *Retiring) where() string {
	if r.Node == "" {
		return ""
	}
	return " on node " + r.Node
}

// desireMons are the mons that there should be.
func (d *Desired) desireMons(o *Observed) []mon.Mon {
	have := o.watchedMons()
	if d.Retiring = o.retiring(have); d.Retiring != nil {
		return withoutMon(have, d.Retiring.Name)
	}
	for _, m := range have {
		if o.Ceph != nil && o.lost(m) {
			d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonMonLost, Message: fmt.Sprintf(
				"mon %s on node %s is out of quorum since %s, and no other ready node that matches spec.placement.nodeSelector can take its place. Bring the node back, or add one",
				m.Name, m.Node, m.MissingSince.UTC().Format(time.RFC3339))})
		}
	}
	return o.assign(have)
}

func (o *Observed) assign(have []mon.Mon) []mon.Mon {
	if o.noMoreMons() {
		return have
	}
	spec, left := o.Cluster.Spec.Mon, o.unrecorded()
	mons := mon.Assign(slices.Concat(have, left), monNodes(o), int(spec.Count), spec.AllowSharedNode, o.lastMon())
	return slices.DeleteFunc(mons, func(m mon.Mon) bool { return slices.Contains(names(left), m.Name) })
}

// watchedMons are the mons, with since when they are out of quorum. While Ceph
// cannot be asked, or the mons elect, nothing new is known of that.
func (o *Observed) watchedMons() []mon.Mon {
	mons := slices.Clone(o.Mons)
	for i := range mons {
		m := &mons[i]
		switch {
		case o.Ceph == nil, len(o.Ceph.Status.Quorum) == 0:
		case slices.Contains(o.Ceph.Status.Quorum, m.Name):
			m.MissingSince, m.Joined = time.Time{}, true
		case m.MissingSince.IsZero():
			m.MissingSince = o.Now.Truncate(time.Second)
		}
		if o.Ceph != nil {
			o.seenApart(m)
		}
	}
	return mons
}

// lost reports whether a mon is out of quorum for longer than the spec allows.
func (o *Observed) lost(m mon.Mon) bool {
	return !m.MissingSince.IsZero() && !o.Now.Before(o.failover(m))
}

// failover is when a missing mon is replaced.
func (o *Observed) failover(m mon.Mon) time.Time {
	after := 10 * time.Minute // the API's default
	if d := o.Cluster.Spec.Mon.FailoverAfter; d != nil {
		after = d.Duration
	}
	return m.MissingSince.Add(after)
}

// unrecorded are the mons that Ceph or a Deployment tells of, and no Service: that was
// deleted by hand. Where such a mon has its store nobody can say for certain, and in the
// pods' network its address is gone. One whose Deployment is on its way was given up.
func (o *Observed) unrecorded() (mons []mon.Mon) {
	nodes := map[string]string{}
	if o.Ceph != nil {
		for _, name := range o.Ceph.Status.Mons {
			nodes[name] = ""
		}
	}
	for _, d := range o.ofKind(mon.Component) {
		if d.DeletionTimestamp == nil {
			nodes[d.Labels[kube.LabelInstance]] = d.Spec.Template.Spec.NodeSelector[corev1.LabelHostname]
		}
	}
	for _, name := range slices.SortedFunc(maps.Keys(nodes), mon.CompareNames) {
		if o.mon(name) == nil {
			mons = append(mons, mon.Mon{Name: name, Node: nodes[name]})
		}
	}
	return mons
}

// retiring chooses the mon that goes now, or nil. One without a Service comes first: it
// counts for the majority. While it is in quorum, and there are too few, another joins
// before. Then comes one whose going has begun, which shows in the monmap.
func (o *Observed) retiring(have []mon.Mon) *Retiring {
	if o.Ceph == nil {
		return nil
	}
	for _, m := range o.unrecorded() {
		needed := o.inQuorum(m) && len(o.Ceph.Status.Mons) < int(o.Cluster.Spec.Mon.Count)
		if len(have) > 0 && !needed {
			return &Retiring{m, "its Service is gone, which says where it has its store and which address it has"}
		}
	}
	order := slices.SortedFunc(slices.Values(have), func(a, b mon.Mon) int {
		return cmp.Or(cmp.Compare(o.standing(a), o.standing(b)), -mon.CompareNames(a.Name, b.Name))
	})
	if len(have) > int(o.Cluster.Spec.Mon.Count) {
		return &Retiring{order[0], fmt.Sprintf("the spec asks for %d mons", o.Cluster.Spec.Mon.Count)}
	}
	for _, m := range order {
		if o.lost(m) && (!o.inMap(m) || len(o.assign(withoutMon(have, m.Name))) == int(o.Cluster.Spec.Mon.Count)) {
			return &Retiring{m, fmt.Sprintf("it is out of quorum since %s", m.MissingSince.UTC().Format(time.RFC3339))}
		}
	}
	return o.moving(have)
}

// moving returns a mon that is well and goes to another node. One goes at a time, while
// all are in quorum: until its successor has joined, every other is needed. A single
// one has none to keep what it knows, and stays.
func (o *Observed) moving(have []mon.Mon) *Retiring {
	count := int(o.Cluster.Spec.Mon.Count)
	well := len(have) >= max(count, 3) && len(without(names(have), o.Ceph.Status.Quorum)) == 0 && len(without(o.Ceph.Status.Mons, names(have))) == 0
	for _, m := range have {
		why := o.misplaced(m, have)
		if why != "" && (!o.inMap(m) || well && len(o.assign(withoutMon(have, m.Name))) == count) {
			return &Retiring{m, why}
		}
	}
	return nil
}

// misplaced says why a mon should be on another node; empty when it is where it belongs.
func (o *Observed) misplaced(m mon.Mon, have []mon.Mon) string {
	node := o.node(m.Node)
	if node != nil && !labels.SelectorFromSet(o.Cluster.Spec.Placement.NodeSelector).Matches(labels.Set(node.Labels)) {
		return fmt.Sprintf("node %s does not match spec.placement.nodeSelector any more", m.Node)
	}
	if addresses := o.nodeAddresses(m.Node); mon.OnHost(o.Cluster) && len(addresses) > 0 && m.Address != "" && !slices.Contains(addresses, m.Address) {
		return fmt.Sprintf("node %s has another address than the mon: %s, not %s", m.Node, addresses[0], m.Address)
	}
	for _, other := range have {
		if !o.Cluster.Spec.Mon.AllowSharedNode && other.Node == m.Node && mon.CompareNames(other.Name, m.Name) < 0 {
			return fmt.Sprintf("it shares node %s with mon %s, and another node is free", m.Node, other.Name)
		}
	}
	return ""
}

func (o *Observed) inMap(m mon.Mon) bool { return slices.Contains(o.Ceph.Status.Mons, m.Name) }

func (o *Observed) inQuorum(m mon.Mon) bool { return slices.Contains(o.Ceph.Status.Quorum, m.Name) }

// aRestart is how long a mon may be out of quorum while it restarts.
const aRestart = time.Minute

// standing is lower for a mon that would be missed less. One that restarts is missed: else
// another would be chosen to go each time that one does.
func (o *Observed) standing(m mon.Mon) int {
	switch {
	case !o.inMap(m):
		return 0
	case !o.inQuorum(m) && o.lost(m):
		return 1
	}
	return 2
}

func withoutMon(mons []mon.Mon, name string) []mon.Mon {
	return slices.DeleteFunc(slices.Clone(mons), func(m mon.Mon) bool { return m.Name == name })
}

// retire takes a mon that goes out of the monmap, then deletes what it was made of.
func (p *planner) retire() error {
	r := p.d.Retiring
	if r == nil {
		return nil
	}
	if p.o.inMap(r.Mon) {
		s := step("mon-"+r.Name+"-remove", "take mon "+r.Name+r.where()+" out of the monmap", r.Why, p.majorityGap(r.Name))
		s.RemoveMon = r.Name
		if s.Gate == "" && !p.o.needsApproval(&s) {
			s.Gate = p.apartGap(r.Name)
		}
		p.add(s)
		return nil
	}
	gate := ""
	if mon.CompareNames(p.o.Cluster.Status.LastMon, r.Name) < 0 {
		gate = "the status says that its name was given"
	}
	s := step("mon-"+r.Name+"-delete", "delete mon "+r.Name+r.where(), r.Why, gate)
	s.Risk, s.EndsMon = v1alpha1.RiskNone, true // it is none of the monmap's
	name := mon.ObjectName(p.o.Cluster, r.Name)
	if deployment := p.o.Deployments[name]; deployment != nil {
		s.Delete = append(s.Delete, deployment)
	}
	if service := p.o.Services[name]; service != nil {
		s.Delete = append(s.Delete, service)
	}
	p.add(s)
	return nil
}

// majorityGap says that without a mon the others would have no quorum.
func (p *planner) majorityGap(name string) string {
	left, stay := len(without(p.o.Ceph.Status.Mons, []string{name})), len(without(p.o.Ceph.Status.Quorum, []string{name}))
	if 2*stay > left {
		return ""
	}
	return fmt.Sprintf("more of the other %d mons are in quorum (%d are)", left, stay)
}

// failoverAt says when mons that are missing are replaced.
func (p *planner) failoverAt(missing []string) string {
	for _, m := range p.d.Mons {
		if slices.Contains(missing, m.Name) && !m.MissingSince.IsZero() && !p.o.lost(m) {
			return fmt.Sprintf("; without it another node gets a mon at %s", p.o.failover(m).UTC().Format(time.TimeOnly+" MST"))
		}
	}
	return ""
}
