package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/disruption"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// drain is what was observed, as decisions about evictions need it.
func (o *Observed) drain() *disruption.View {
	v := &disruption.View{Now: o.Now, Cluster: o.Cluster, Nodes: o.Nodes, Pools: o.Pools, Budgets: o.Budgets}
	switch {
	case o.Ceph == nil && o.Cluster.Status.FSID == "":
		return v // nothing to protect yet
	case o.Ceph == nil:
		v.Unknown = cmp.Or(fmt.Sprint(o.CephError), "it does not answer")
	default:
		v.Unclean, v.Asked, v.NotOK = unclean(o.Ceph), o.Ceph.Stopping, o.Ceph.NotOKToStop
	}
	v.Daemons = slices.Concat(o.monDaemons(), o.osdDaemons(), o.mgrDaemons())
	return v
}

func (o *Observed) monDaemons() (daemons []disruption.Daemon) {
	for _, m := range o.watchedMons() {
		if o.Ceph == nil || o.inMap(m) {
			daemons = append(daemons, disruption.Daemon{Kind: mon.Component, Name: m.Name, Node: m.Node, Since: m.MissingSince,
				Up: o.Ceph != nil && slices.Contains(o.Ceph.Status.Quorum, m.Name), Pod: o.podOf(mon.Component, m.Name)})
		}
	}
	return daemons
}

// osdDaemons are the OSDs that have run, by what Kubernetes runs them with.
func (o *Observed) osdDaemons() (daemons []disruption.Daemon) {
	for _, deployment := range o.Deployments {
		name := deployment.Labels[kube.LabelInstance]
		id, err := strconv.Atoi(name)
		if deployment.Labels[kube.LabelComponent] != osd.Component || err != nil {
			continue
		}
		target, pod := osd.TargetOf(deployment), o.podOf(osd.Component, name)
		d := disruption.Daemon{Kind: osd.Component, Name: name, ID: id, Node: o.nodeOf(target, pod), Pod: pod, Portable: target.Claim != "" && o.nodeOf(target, nil) == ""}
		if o.Ceph != nil {
			known := o.osd(osd.TargetOf(deployment).UUID)
			if known == nil || known.Weight == 0 && !known.Up {
				continue
			}
			d.Up, d.In, d.NoOut, d.Gone = known.Up, known.In, known.NoOut, !known.Up && !known.In
		}
		daemons = append(daemons, d)
	}
	slices.SortFunc(daemons, func(a, b disruption.Daemon) int { return cmp.Compare(a.ID, b.ID) })
	return daemons
}

// mgrDaemons are the mgrs, on the nodes where they are now.
func (o *Observed) mgrDaemons() (daemons []disruption.Daemon) {
	well := o.Ceph != nil && o.Ceph.Status.ActiveMgr != "" && o.Ceph.Status.StandbyMgrs+1 >= int(o.Cluster.Spec.Mgr.Count)
	for _, name := range mgrNames(o.Cluster) {
		if o.Deployments[mgr.ObjectName(o.Cluster, name)] == nil {
			continue
		}
		d := disruption.Daemon{Kind: mgr.Component, Name: name, Up: well, Pod: o.podOf(mgr.Component, name)}
		if d.Pod != nil {
			d.Node = d.Pod.Spec.NodeName
		}
		daemons = append(daemons, d)
	}
	return daemons
}

// askToStop asks Ceph of the OSDs that could be stopped next.
func (o *Observed) askToStop(ctx context.Context, conn ceph.Conn) (err error) {
	if ids := disruption.Candidates(o.drain()); len(ids) > 0 {
		o.Ceph.Stopping = ids
		o.Ceph.NotOKToStop, err = conn.NotOKToStop(ctx, ids)
	}
	return err
}

// evictions writes the budgets. What protects comes at once.
func (p *planner) evictions() error {
	view := p.o.drain()
	for _, budget := range p.d.Drain.Budgets {
		differs, err := kube.Differs(p.o.live(budget), budget)
		if err != nil {
			return err
		}
		if !differs {
			continue
		}
		s := step(budget.Name, "protect its daemons from evictions", "they wait until "+cmp.Or(p.d.Drain.Waits, "others are well"), "")
		if s.Recheck = disruption.Loosens(budget, view); s.Recheck {
			s.What, s.Why = "let one of the daemons be evicted at a time", "all are well"
			if len(p.d.Drain.Opened) > 0 {
				s.What, s.Why = "let "+disruption.List(p.d.Drain.Opened)+" be evicted", "their node is drained, and nothing else is missing"
			}
		}
		s.What += " (PodDisruptionBudget " + budget.Name + ")"
		s.Apply = []client.Object{budget}
		p.add(s)
	}
	for _, name := range p.d.Drain.Obsolete {
		s := step(name, "delete PodDisruptionBudget "+name, "another one is about its daemons", "")
		s.Delete = []client.Object{p.o.Budgets[name]}
		p.add(s)
	}
	return nil
}

// noOut tells Ceph which OSDs are expected back.
func (p *planner) noOut() error {
	for _, change := range disruption.NoOuts(p.o.drain()) {
		s := step("noout-"+change.Node, "let Ceph make the data of node "+change.Node+" anew when its OSDs are down", "they are back, or were waited for long enough", "")
		if change.On {
			s.What = fmt.Sprintf("keep Ceph from making the data of node %s anew until %s", change.Node, change.Until.UTC().Format("15:04:05 MST"))
			s.Why = "its OSDs are stopped for a drain, and expected back"
		}
		s.NoOut = &change
		p.add(s)
	}
	return nil
}

// loosen lets pods be evicted where a fresh look, past every cache, asks for the
// same as the one that the step came from.
func (r *Reconciler) loosen(ctx context.Context, o *Observed, s Step) error {
	seen, err := r.fromServer().observe(ctx, o.Cluster)
	if err != nil {
		return err
	}
	for _, budget := range disruption.Decide(seen.drain()).Budgets {
		want, ok := s.Apply[0].(*policyv1.PodDisruptionBudget)
		if ok && budget.Name == want.Name && same(budget, want) {
			return kube.Apply(ctx, r.Client, budget)
		}
	}
	return nil // the next look decides anew
}

func same(a, b *policyv1.PodDisruptionBudget) bool {
	left, err := kube.Hash(a)
	if err != nil {
		return false
	}
	right, err := kube.Hash(b)
	return err == nil && left == right
}

// nodeLost names the nodes that do not answer, their daemons, what was tried in vain, and
// what holds up another mon in the place of a lost one.
func nodeLost(o *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	lost := disruption.Lost(o.drain())
	if lost == "" {
		return nil
	}
	if failed := stepFailed(o, nil, steps); failed != nil {
		lost += ". " + failed.Message
	}
	for _, s := range steps {
		if s.Gate != "" && (s.RestartMon != "" || s.RemoveMon != "") {
			lost += fmt.Sprintf(". '%s' waits until %s", s.What, s.Gate)
			break
		}
	}
	return blocker(v1alpha1.ReasonNodeLost, "%s", lost)
}

// drainBlocked says of cordoned nodes what their drain waits for.
func drainBlocked(o *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	if blocked := d.Drain.Blocked(o.drain()); blocked != "" {
		return blocker(v1alpha1.ReasonDrainBlocked, "%s", blocked)
	}
	return nil
}

// nodeDrained says of drained nodes what brings their daemons back.
func nodeDrained(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	if emptied := disruption.Emptied(o.drain()); emptied != "" {
		return blocker(v1alpha1.ReasonNodeDrained, "%s", emptied)
	}
	return nil
}

// drainableCondition says whether a node may be drained now.
func drainableCondition(o *Observed, d *Desired) metav1.Condition {
	view := o.drain()
	switch blocked := d.Drain.Blocked(view); {
	case blocked != "":
		return condition(v1alpha1.ConditionDrainable, false, v1alpha1.ReasonDrainBlocked, blocked)
	case d.Drain.Waits != "":
		return condition(v1alpha1.ConditionDrainable, false, v1alpha1.ReasonProtected, "no other "+view.Kind()+" may be drained until "+d.Drain.Waits)
	case len(d.Drain.Budgets) == 0:
		return condition(v1alpha1.ConditionDrainable, false, v1alpha1.ReasonProtected, "the cluster is not founded yet")
	}
	return condition(v1alpha1.ConditionDrainable, true, v1alpha1.ReasonOneAtATime, "one "+view.Kind()+" may be drained at a time")
}

// warn reports a blocker that is new as an event, that of a drain on its nodes too.
func (r *Reconciler) warn(o *Observed, d *Desired, b *v1alpha1.Blocker) {
	old := o.Cluster.Status.Blocker
	if r.Events == nil || b == nil || old != nil && old.Reason == b.Reason && old.Message == b.Message {
		return
	}
	const limit = 1000 // of an event's note
	note := strings.ReplaceAll(strings.ToValidUTF8(b.Message[:min(len(b.Message), limit)], ""), "%", "%%")
	r.Events.Eventf(o.Cluster, nil, corev1.EventTypeWarning, b.Reason, "Reconcile", note)
	if b.Reason != v1alpha1.ReasonDrainBlocked {
		return
	}
	for _, name := range d.Drain.HeldNodes() {
		if node := o.node(name); node != nil {
			r.Events.Eventf(node, o.Cluster, corev1.EventTypeWarning, b.Reason, "Drain", note)
		}
	}
}
