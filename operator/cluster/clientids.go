package cluster

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"strings"
	"sync"

	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/mon"
)

// OSDs tell a request that was sent again by the client's ID and a number, so that no ID
// may be given twice. Mons give them on their own: each goes on from the maximum that was
// stored when it started, by the remainder that is its rank when divided by the number of
// mons (Ceph's src/mon/AuthMonitor.cc). When ranks and number change, mons that started
// from one maximum give again what another of them has given. So the monmap is changed
// only while each mon that stays is apart: it began above all that any mon had given
// (docs/decisions/0008).

// monRun names the run of a mon: empty while no pod runs it.
func (o *Observed) monRun(name string) string {
	pod := o.podOf(mon.Component, name)
	if pod == nil {
		return ""
	}
	var restarts int32
	for i := range pod.Status.ContainerStatuses {
		restarts += pod.Status.ContainerStatuses[i].RestartCount
	}
	return fmt.Sprintf("%s/%d", pod.UID, restarts)
}

// ahead names the mon that gives greater client IDs than any other, by so much that it
// began after them; empty when there is none, or nothing is known of some. A mon that was
// away has begun from a maximum that is old: another one is ahead of it.
func (o *Observed) ahead() string {
	if o.Ceph == nil || o.Ceph.ClientIDsError != nil || len(o.Ceph.ClientIDs) == 0 {
		return ""
	}
	ids, s := o.Ceph.ClientIDs, o.Ceph.Status
	if len(ids) != len(s.Quorum) {
		return ""
	}
	order := slices.SortedFunc(slices.Values(s.Quorum), func(a, b string) int { return cmp.Compare(ids[b], ids[a]) })
	first := order[0]
	if len(order) > 1 && ids[first] < ids[order[1]]+mon.ClientIDRange/2 {
		return ""
	}
	for _, missing := range without(s.Mons, s.Quorum) { // what it has given is not known, but from when
		m, pod := o.mon(missing), o.podOf(mon.Component, first)
		if m == nil || pod == nil || m.MissingSince.IsZero() || !m.MissingSince.Before(pod.CreationTimestamp.Time) {
			return ""
		}
	}
	return first
}

// apart remembers which runs of the mons were asked for their client IDs, and told nothing new.
type apart struct {
	mu    sync.Mutex
	asked map[types.UID]string
}

// open reports whether a mon in quorum may be apart, and that was not asked yet.
func (a *apart) open(o *Observed) bool {
	known := true
	for _, m := range o.Mons {
		known = known && (!o.inQuorum(m) || m.Apart == o.monRun(m.Name))
	}
	a.mu.Lock()
	defer a.mu.Unlock()
	return !known && a.asked[o.Cluster.UID] != o.monRuns()
}

// ask the mons, which all can be reached and answer at once, or are not awaited.
func (a *apart) ask(ctx context.Context, o *Observed, conn ceph.Conn) {
	ctx, cancel := context.WithTimeout(ctx, connection.Timeout/4)
	defer cancel()
	o.Ceph.ClientIDs, o.Ceph.ClientIDsError = conn.ClientIDs(ctx)
	a.note(o)
}

// note what was asked.
func (a *apart) note(o *Observed) {
	if o.Ceph.ClientIDsError != nil {
		return
	}
	if m := o.mon(o.ahead()); m != nil && m.Apart != o.monRun(m.Name) {
		return // to be written down
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
	for _, m := range p.o.watchedMons() {
		live := p.o.Deployments[mon.ObjectName(p.o.Cluster, m.Name)]
		switch {
		case m.Name == leaving || !p.o.inMap(m) || p.o.begun[m.Name] || live == nil || !mon.HasRange(live):
			continue
		case !p.o.inQuorum(m) && p.o.Now.Sub(m.MissingSince) < aRestart:
			return fmt.Sprintf("mon %s has restarted", m.Name)
		case !p.o.inQuorum(m):
			continue
		}
		if run := p.o.monRun(m.Name); run == "" || run != m.Apart {
			p.beginAnew(m, leaving)
			return fmt.Sprintf("mon %s gives client IDs that no mon gave before", m.Name)
		}
	}
	return ""
}

// beginAnew restarts a mon: it goes on from the maximum that is stored now.
func (p *planner) beginAnew(m mon.Mon, leaving string) {
	s := step("mon-"+m.Name+"-anew", "restart mon "+m.Name+", to give client IDs that no mon gave before",
		"the mons are about to change: Ceph's then give some IDs twice, and OSDs take a write under such an ID for one that they have made", p.quorumGap(m.Name, leaving))
	pod := p.o.podOf(mon.Component, m.Name)
	switch {
	case pod == nil:
		s.Wait, s.What = true, "wait for the pod of mon "+m.Name
	case s.Gate == "" && p.o.Ceph.ClientIDsError != nil:
		s.Gate = fmt.Sprintf("the mons tell which client IDs they give: %v", p.o.Ceph.ClientIDsError)
	case s.Gate == "":
		s.Delete, p.restartsMon = append(s.Delete, pod), true
	}
	s.Risk = v1alpha1.RiskRestart
	p.add(s)
}
