package cluster

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// OSDs tell a request that was sent again by the client's ID and a number, so that no ID
// may be given twice. Mons give them on their own: each goes on from the maximum that was
// stored when it started, by the remainder that is its rank when divided by the number of
// mons (Ceph's src/mon/AuthMonitor.cc). When ranks and number change, mons that started
// from one maximum give again what another of them has given. So the monmap is changed
// only while each mon that stays is apart: it began above all that any mon had given, and
// no other is near (docs/decisions/0008).

// monPod is the pod that runs a mon, if need be one that is ending; nil for none.
func (o *Observed) monPod(name string) *corev1.Pod {
	if pod := o.podOf(mon.Component, name); pod != nil {
		return pod
	}
	for i := range o.Pods {
		pod := &o.Pods[i]
		if pod.Labels[kube.LabelComponent] == mon.Component && pod.Labels[kube.LabelInstance] == name && pod.Status.Phase == corev1.PodRunning {
			return pod
		}
	}
	return nil
}

// monRun names the run of a mon: empty while no pod runs it.
func (o *Observed) monRun(name string) string {
	pod := o.monPod(name)
	if pod == nil {
		return ""
	}
	run := string(pod.UID)
	for i := range pod.Status.ContainerStatuses {
		if c := &pod.Status.ContainerStatuses[i]; c.Name == mon.Component {
			run += "/" + c.ContainerID
		}
	}
	return run
}

// seenApart has what is known of a mon follow from the client IDs that the mons give now.
// One is apart that is ahead of all others by so much that it began after them: of what
// they give, and of what was noted of those that are missing. A mon that was away has begun
// from a maximum that is old, and is near another one, or behind it. One to which another
// has come near is apart no more.
func (o *Observed) seenApart(m *mon.Mon) {
	own, asked := o.Ceph.ClientIDs[m.Name]
	run := o.monRun(m.Name)
	if !asked || run == "" {
		return
	}
	ahead, alone := o.Ceph.ClientIDsError == nil, true
	for name, id := range o.Ceph.ClientIDs {
		if name != m.Name {
			ahead = ahead && own >= id+mon.ClientIDRange/2
			alone = alone && (own >= id+mon.ClientIDRange/2 || id >= own+mon.ClientIDRange/2)
		}
	}
	for _, other := range o.Mons {
		if other.Name != m.Name && other.Apart.Run != "" {
			ahead = ahead && own >= other.Apart.ID+mon.ClientIDRange/2
		}
	}
	switch known := m.Apart.Run == run; {
	case known && !alone:
		m.Apart = mon.Apart{}
	case !known && ahead:
		m.Apart = mon.Apart{Run: run, ID: own}
	}
}

// silentMons are the mons in quorum that did not say which client IDs they give.
func (o *Observed) silentMons() (names []string) {
	for _, name := range o.Ceph.Status.Quorum {
		if _, asked := o.Ceph.ClientIDs[name]; !asked {
			names = append(names, name)
		}
	}
	return names
}

// apart remembers which runs of the mons were asked for their client IDs, and told nothing new.
type apart struct {
	mu    sync.Mutex
	asked map[types.UID]string
}

// ask the mons which client IDs they give, where a run of one is not known. All can be
// reached and answer at once, or are not awaited.
func (a *apart) ask(ctx context.Context, o *Observed, conn ceph.Conn) {
	if !a.open(o) {
		return
	}
	ctx, cancel := context.WithTimeout(ctx, connection.Timeout/4)
	defer cancel()
	o.Ceph.ClientIDs, o.Ceph.ClientIDsError = conn.ClientIDs(ctx)
	for name := range o.Ceph.ClientIDs {
		if !slices.Contains(o.Ceph.Status.Quorum, name) { // they elect
			o.Ceph.ClientIDs = nil
			break
		}
	}
	if o.Ceph.ClientIDsError == nil && len(o.silentMons()) > 0 {
		o.Ceph.ClientIDsError = ceph.Errorf(ceph.Unreached, "sessions", "the mons elect")
	}
	a.note(o)
}

// open reports whether something may be learnt from the mons: before they change, always.
func (a *apart) open(o *Observed) bool {
	if have := o.watchedMons(); len(o.assign(have)) > len(have) || o.retiring(have) != nil {
		return true
	}
	known := true
	for _, m := range o.Mons {
		if !o.inMap(m) {
			return true // it joins
		}
		known = known && (!o.inQuorum(m) || m.Apart.Run == o.monRun(m.Name))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !known && a.asked[o.Cluster.UID] != o.monRuns()
}

// note that nothing more can be learnt, when all have told and nothing is to be written down.
func (a *apart) note(o *Observed) {
	if o.Ceph.ClientIDsError != nil {
		return
	}
	for _, m := range o.Mons {
		before := m.Apart
		if o.seenApart(&m); m.Apart != before {
			return
		}
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.asked == nil {
		a.asked = map[types.UID]string{}
	}
	a.asked[o.Cluster.UID] = o.monRuns()
}

// monRuns are the runs of the mons in quorum, and who is missing there.
func (o *Observed) monRuns() string {
	var runs []string
	for _, name := range o.Ceph.Status.Mons {
		run := "missing"
		if slices.Contains(o.Ceph.Status.Quorum, name) {
			run = o.monRun(name)
		}
		runs = append(runs, name+" "+run)
	}
	return strings.Join(runs, ", ")
}

// apartGap says which mon is not apart, of those that stay when one leaves (empty: when
// one joins), and adds the step that it begins anew.
func (p *planner) apartGap(leaving string) string {
	watched := p.o.watchedMons()
	for i, m := range watched {
		live := p.o.Deployments[mon.ObjectName(p.o.Cluster, m.Name)]
		switch {
		case m.Name == leaving || !p.o.inMap(m) || p.o.begun[m.Name] || live == nil || !mon.HasRange(live):
			continue
		case !p.o.inQuorum(m) && p.o.Now.Sub(m.MissingSince) < aRestart:
			return fmt.Sprintf("mon %s has restarted", m.Name)
		case !p.o.inQuorum(m):
			continue
		case m.Apart != p.o.Mons[i].Apart:
			return fmt.Sprintf("it is written down which client IDs mon %s gives", m.Name)
		}
		if run := p.o.monRun(m.Name); run == "" || run != m.Apart.Run {
			p.beginAnew(m, leaving)
			return fmt.Sprintf("mon %s gives client IDs that no mon gave before", m.Name)
		}
	}
	return ""
}

// unstarted says which mon's pod has not started although its node takes pods, where the
// quorum ends without another mon: a pod of that one might not start either. The mon that
// leaves may do so for that.
func (p *planner) unstarted(m mon.Mon, leaving string) string {
	if 2*(len(p.o.Ceph.Status.Quorum)-1) > len(p.o.Ceph.Status.Mons) {
		return ""
	}
	for i := range p.o.Pods {
		pod := &p.o.Pods[i]
		if pod.Labels[kube.LabelComponent] != mon.Component || pod.Status.Phase != corev1.PodPending {
			continue
		}
		other := p.o.mon(pod.Labels[kube.LabelInstance])
		if other != nil && other.Name != m.Name && other.Name != leaving && takesPods(p.o.node(other.Node), p.o.Cluster) {
			return fmt.Sprintf("the pod of mon %s has started on node %s (cordon that where it cannot): until a new pod of mon %s has, there is no quorum", other.Name, other.Node, m.Name)
		}
	}
	return ""
}

// beginAnew restarts a mon: it goes on from the maximum that is stored now. All others
// are in quorum then, but those that are lost, or that nothing has on record.
func (p *planner) beginAnew(m mon.Mon, leaving string) {
	if p.anew {
		return
	}
	p.anew = true
	except := append(p.lost(), m.Name)
	if p.o.mon(leaving) == nil {
		except = append(except, leaving)
	}
	s := step("mon-"+m.Name+"-anew", "restart mon "+m.Name+", to give client IDs that no mon gave before",
		"the mons are about to change: Ceph's then give some IDs twice, and OSDs take a write under such an ID for one that they have made", p.quorumGap(except...))
	s.RestartMon = m.Name
	pod, unstarted := p.o.monPod(m.Name), p.unstarted(m, leaving)
	switch {
	case pod == nil || pod.DeletionTimestamp != nil:
		s.Wait, s.What, p.restartsMon = true, "wait for another pod of mon "+m.Name, true
	case s.Gate != "":
	case unstarted != "":
		s.Gate = unstarted
	case p.o.Ceph.ClientIDsError != nil:
		s.Gate = fmt.Sprintf("mons %s say which client IDs they give", strings.Join(p.o.silentMons(), ", "))
	case !takesPods(p.o.node(m.Node), p.o.Cluster):
		s.Gate = fmt.Sprintf("node %s takes a pod of mon %s: it is not ready, cordoned or tainted", m.Node, m.Name)
	default:
		s.Delete, p.restartsMon = append(s.Delete, pod), true
	}
	s.Risk = v1alpha1.RiskRestart
	p.add(s)
}
