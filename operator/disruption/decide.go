package disruption

import (
	"fmt"
	"slices"

	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// One PodDisruptionBudget holds all mons and OSDs of a cluster, so that it is the
// API server that lets one of them go and not two, however many drains begin at
// the same moment. It is in one of three states:
//
//	at rest   all run and all PGs are clean: one of all may be evicted
//	held      none may be evicted
//	opened    what is left on the cordoned nodes of the one failure domain that
//	          has begun to stop is taken out of the budget; the others are held
//
// OSDs that may run on other nodes leave a cordoned node first, one after the other: each
// is back before the next one goes, and before the node's others stop for as long as it is
// cordoned.
//
// It is only opened from a state in which the others are held and the disruption
// controller has seen so: from then on nothing but this decision lets a pod go.

// Decision is which pods may be evicted, and what the others wait for.
type Decision struct {
	Budgets []*policyv1.PodDisruptionBudget
	// Obsolete are the names of budgets that there should not be.
	Obsolete []string
	// Opened are daemons that may be evicted beside the first.
	Opened []Daemon
	// Waits is what evictions wait for; empty at rest.
	Waits string
	// Held are daemons on cordoned nodes that cannot be evicted now.
	Held []Daemon
}

// Loosens reports whether a budget lets pods be evicted: that is decided anew from
// what the server itself says before it is written.
func Loosens(b *policyv1.PodDisruptionBudget, of *View) bool {
	return b.Spec.MinAvailable.IntValue() < len(pods(b)) || len(pods(b)) < len(pods(of.Budgets[b.Name]))
}

// Candidates are the OSDs that could be down together next: those that are left
// on the cordoned nodes of the domain that has begun to stop, and what stopped.
func Candidates(v *View) []int {
	var ids []int
	left := filter(v.left(), func(d Daemon) bool { return d.Kind == osd.Component })
	if len(left) == 0 {
		return nil
	}
	for _, d := range append(left, v.stopped()...) {
		if d.Kind == osd.Component {
			ids = append(ids, d.ID)
		}
	}
	slices.Sort(ids)
	return ids
}

// stopped are the mons and OSDs that do not serve.
func (v *View) stopped() []Daemon {
	return filter(v.stored(), func(d Daemon) bool { return !d.serves() })
}

// left are those that serve still on the cordoned nodes of the one domain that
// has begun to stop; of those that may run elsewhere the first alone, be it of a
// domain in which nothing has stopped.
func (v *View) left() []Daemon {
	domains := v.domains(v.stopped())
	if len(domains) > 1 {
		return nil
	}
	left := filter(v.stored(), func(d Daemon) bool {
		return d.serves() && v.cordoned(d.Node) && (len(domains) == 0 || v.domain(d.Node) == domains[0])
	})
	if moves := filter(left, func(d Daemon) bool { return d.Portable }); len(moves) > 0 {
		return moves[:1]
	}
	if len(domains) == 0 {
		return nil
	}
	return left
}

// Decide which daemons may be evicted.
func Decide(v *View) *Decision {
	d := &Decision{}
	budgeted := v.budgeted()
	if len(budgeted) > 0 {
		d.storage(v, budgeted)
	}
	d.Budgets = append(d.Budgets, v.monsAlone()...)
	if mgrs := v.of(mgr.Component); len(mgrs) > 0 {
		d.Budgets = append(d.Budgets, v.mgrs(mgrs))
	}
	if name := monBudget(v.Cluster); v.Budgets[name] != nil && v.sparesMons() {
		d.Obsolete = []string{name}
	}
	d.Held = v.held(d)
	return d
}

// sparesMons reports whether the quorum stays when a mon goes.
func (v *View) sparesMons() bool { return len(v.of(mon.Component)) >= 3 }

func (v *View) budgeted() []Daemon {
	if v.sparesMons() {
		return v.stored()
	}
	return v.of(osd.Component)
}

// storage decides on the budget of mons and OSDs.
func (d *Decision) storage(v *View, budgeted []Daemon) {
	stopped := v.stopped()
	switch {
	case v.Unknown != "":
		d.Waits = "Ceph can be asked: " + v.Unknown
	case len(stopped) == 0 && v.Unclean == "" && len(v.left()) > 0:
		d.Waits = List(v.left()) + " runs on another node"
	case len(stopped) == 0 && v.Unclean == "":
		d.Budgets = append(d.Budgets, v.budget(storageBudget(v.Cluster), budgeted, len(budgeted)-1, mon.Component, osd.Component))
		return
	case len(stopped) == 0:
		d.Waits = v.Unclean
	default:
		d.Waits = byNode(stopped) + number(stopped, " is", " are") + " back, and all PGs are clean"
	}
	protected := budgeted
	if v.Unknown == "" {
		protected = d.open(v, budgeted)
	}
	d.Budgets = append(d.Budgets, v.budget(storageBudget(v.Cluster), protected, len(protected), mon.Component, osd.Component))
}

// open takes what is left on the cordoned nodes of the domain that has begun to
// stop out of the budget, and returns what stays in it.
func (d *Decision) open(v *View, budgeted []Daemon) []Daemon {
	left := filter(v.left(), func(l Daemon) bool { return slices.Contains(budgeted, l) })
	if len(left) == 0 {
		return budgeted
	}
	if why := v.unsafe(left); why != "" {
		d.Waits = why
		return budgeted
	}
	protected := filter(budgeted, func(b Daemon) bool { return !slices.Contains(left, b) })
	if len(protected) == 0 || !v.holds(protected) {
		return budgeted
	}
	d.Opened = left
	return protected
}

// unsafe says why daemons must not be stopped beside those that are.
func (v *View) unsafe(left []Daemon) string {
	if want := Candidates(v); len(want) > 0 {
		switch {
		case !slices.Equal(want, v.Asked):
			return "Ceph says whether its OSDs may stop"
		case v.NotOK != "":
			return "Ceph lets its OSDs stop: " + v.NotOK
		}
	}
	mons := v.of(mon.Component)
	stay := filter(mons, func(m Daemon) bool { return m.Up && !slices.Contains(left, m) })
	if len(stay) < len(mons) && 2*len(stay) <= len(mons) {
		return fmt.Sprintf("more mons are in quorum: %d of %d would be left", len(stay), len(mons))
	}
	return ""
}

// holds reports whether the budget holds some daemons at least, and that is in force.
func (v *View) holds(daemons []Daemon) bool {
	live := v.Budgets[storageBudget(v.Cluster)]
	if live == nil || live.Status.ObservedGeneration != live.Generation || live.Spec.MinAvailable.IntValue() != len(pods(live)) {
		return false
	}
	held := pods(live)
	return !slices.ContainsFunc(daemons, func(d Daemon) bool { return !slices.Contains(held, d.Name) })
}

// monsAlone is the budget of mons none of which can be spared.
func (v *View) monsAlone() []*policyv1.PodDisruptionBudget {
	mons := v.of(mon.Component)
	if len(mons) == 0 || v.sparesMons() {
		return nil
	}
	return []*policyv1.PodDisruptionBudget{v.budget(monBudget(v.Cluster), mons, len(mons), mon.Component)}
}

// mgrs may go one at a time while another stands by. A single one starts anew
// elsewhere.
func (v *View) mgrs(mgrs []Daemon) *policyv1.PodDisruptionBudget {
	least := len(mgrs) - 1
	if len(mgrs) > 1 && (v.Unknown != "" || slices.ContainsFunc(mgrs, func(m Daemon) bool { return !m.Up })) {
		least = len(mgrs)
	}
	return v.budget(mgrBudget(v.Cluster), mgrs, least, mgr.Component)
}

// held are the daemons on cordoned nodes that run and cannot be evicted.
func (v *View) held(d *Decision) []Daemon {
	var held []Daemon
	for _, b := range d.Budgets {
		if b.Spec.MinAvailable.IntValue() < len(pods(b)) {
			continue
		}
		for _, daemon := range v.Daemons {
			if slices.Contains(components(b), daemon.Kind) && slices.Contains(pods(b), daemon.Name) && daemon.Pod != nil && v.cordoned(daemon.Node) {
				held = append(held, daemon)
			}
		}
	}
	return held
}

func (v *View) budget(name string, daemons []Daemon, least int, components ...string) *policyv1.PodDisruptionBudget {
	return &policyv1.PodDisruptionBudget{
		ObjectMeta: kube.Meta(v.Cluster, name, "disruption", ""),
		Spec: policyv1.PodDisruptionBudgetSpec{
			MinAvailable: ptr.To(intstr.FromInt32(int32(least))),
			Selector: &metav1.LabelSelector{
				MatchLabels: map[string]string{kube.LabelManagedBy: kube.Manager, kube.LabelCluster: v.Cluster.Name},
				MatchExpressions: []metav1.LabelSelectorRequirement{
					{Key: kube.LabelComponent, Operator: metav1.LabelSelectorOpIn, Values: components},
					{Key: kube.LabelInstance, Operator: metav1.LabelSelectorOpIn, Values: names(daemons)},
				},
			},
			// A pod that does not run serves nothing: it may always go.
			UnhealthyPodEvictionPolicy: ptr.To(policyv1.AlwaysAllow),
		},
	}
}

// pods are the instances that a budget is about.
func pods(b *policyv1.PodDisruptionBudget) []string { return values(b, kube.LabelInstance) }

func components(b *policyv1.PodDisruptionBudget) []string { return values(b, kube.LabelComponent) }

func values(b *policyv1.PodDisruptionBudget, label string) []string {
	if b == nil || b.Spec.Selector == nil {
		return nil
	}
	for _, expression := range b.Spec.Selector.MatchExpressions {
		if expression.Key == label {
			return expression.Values
		}
	}
	return nil
}
