package cluster

import (
	"cmp"
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// ask has the image of the spec say which version it is: before an upgrade, and
// before the first keys are made, which must fit the version.
func (p *planner) ask() error {
	wanted := ""
	if _, known := p.o.version(); !known && (p.up != nil && !p.up.back || p.unknownAtFounding()) {
		wanted = upgrade.PodName(p.o.Cluster)
	}
	for i := range p.o.Pods {
		if pod := &p.o.Pods[i]; pod.Labels[kube.LabelComponent] == upgrade.Component && pod.Name != wanted && pod.DeletionTimestamp == nil && !p.answerNeeded(pod) {
			s := step("version-asked", "delete pod "+pod.Name, "the image has said its version", "")
			s.Delete = []client.Object{pod}
			p.add(s)
		}
	}
	if wanted == "" {
		return nil
	}
	s := step("version", "ask the image "+p.o.Cluster.Spec.Ceph.Image+" which version of Ceph it is", "daemons are started as the version needs it, and never with an earlier one", "")
	if p.o.pod(wanted) != nil {
		s.Wait = true
	} else {
		s.Apply = []client.Object{upgrade.Pod(p.o.Cluster)}
	}
	p.add(s)
	return nil
}

// answerNeeded reports whether a pod's answer is written down nowhere else yet.
func (p *planner) answerNeeded(pod *corev1.Pod) bool {
	if pod.Name != upgrade.PodName(p.o.Cluster) {
		return false
	}
	record := p.o.Cluster.Status.Upgrade
	return p.foundingAsks() || p.up != nil && !p.up.back && (record == nil || record.Image != p.up.image)
}

// foundingAsks reports whether the first keys wait for what another image than
// the shipped one says.
func (p *planner) foundingAsks() bool {
	return p.o.Keys == nil && p.o.KeysError == nil && !p.o.hadKeys() && p.o.Cluster.Spec.Ceph.Image != upgrade.Shipped
}

func (p *planner) unknownAtFounding() bool {
	_, known := p.o.version()
	return p.foundingAsks() && !known
}

// keysGate is what the first keys wait for.
func (p *planner) keysGate() string {
	if p.unknownAtFounding() {
		return "the image " + p.o.Cluster.Spec.Ceph.Image + " has said which version of Ceph it is"
	}
	if len(p.d.WrongOptions) > 0 {
		return "spec.ceph.config has no option that Ceph cannot have"
	}
	return ""
}

// upgrades makes a daemon's restart a part of the upgrade, when it gets another image.
func (p *planner) upgrades(s *Step, d, live *appsv1.Deployment) {
	if p.up == nil || live == nil || imageOf(live) == p.up.image {
		return
	}
	verb := "upgrade"
	if p.up.back {
		verb = "take back"
	}
	s.What = fmt.Sprintf("%s %s to %s", verb, s.Name, cmp.Or(p.up.versionText(), p.up.image))
	if node := d.Annotations[kube.AnnotationNode]; node != "" {
		s.What += " on node " + node
	}
	s.Why = "spec.ceph.image is " + p.up.image
	base := s.Gate
	if d.Labels[kube.LabelComponent] == osd.Component {
		base = p.stopGate(d)
	}
	s.Gate, s.Reason = p.up.gate(d, base)
}

func (c *change) versionText() string {
	if c.version == (upgrade.Version{}) {
		return ""
	}
	return c.version.String()
}

// canaryFirst puts the step of the daemon that goes first where it belongs.
func (p *planner) canaryFirst() error {
	if p.up != nil && p.up.canary != "" {
		first := func(s Step) bool { return len(s.Apply) == 1 && s.Apply[0].GetName() == p.up.canary }
		slices.SortStableFunc(p.steps, func(a, b Step) int { return cmp.Compare(order(first(a)), order(first(b))) })
	}
	return nil
}

func order(first bool) int {
	if first {
		return 0
	}
	return 1
}

// stopGate is what an OSD's restart with another image waits for.
func (p *planner) stopGate(d *appsv1.Deployment) string {
	known := p.o.osd(d.Annotations[kube.AnnotationUUID])
	if known != nil && !known.Up {
		return "" // nothing is lost by starting what does not run
	}
	if gap := unclean(p.o.Ceph); gap != "" {
		return gap
	}
	if p.d.Drain.Waits != "" {
		return p.d.Drain.Waits
	}
	if other := p.rollingElsewhere(osd.Place(d)); other != "" {
		return other + " has restarted"
	}
	may := p.o.Ceph.MayStop
	switch {
	case known == nil || !slices.Contains(may.Asked, known.ID):
		return "the OSDs before it have restarted"
	case !slices.Contains(may.IDs, known.ID):
		return cmp.Or(may.Why, "the OSDs before it have restarted")
	}
	return ""
}

// requireRelease has the OSD map let go of the release before, at the end.
func (p *planner) requireRelease() error {
	if p.o.Ceph == nil || p.o.Ceph.Releases == nil {
		return nil
	}
	goal, gate := p.goal()
	if ceph.ReleaseNumber(p.o.Ceph.Releases.OSDs) >= goal.Release {
		if gate != "" && p.up == nil {
			s := step("versions", "wait until "+gate, "then the upgrade is over", "")
			s.Wait = true
			p.add(s)
		}
		return nil
	}
	s := step("require-osd-release", fmt.Sprintf("let only OSDs of release %d or later take part", goal.Release),
		"OSDs of an earlier one would not understand what is written from now on", gate)
	if mons := p.o.Ceph.Releases.Mons; ceph.ReleaseNumber(mons) == goal.Release {
		s.Require = mons
	} else if gate == "" {
		s.Gate = fmt.Sprintf("the mons have agreed on release %d (%s now)", goal.Release, mons)
	}
	p.add(s)
	return nil
}

// goal is the version whose release the OSD map is to require, and what must be
// so before. Without an upgrade it is what the OSDs run.
func (p *planner) goal() (goal upgrade.Version, gate string) {
	record := p.o.Cluster.Status.Upgrade
	switch {
	case p.up != nil && (p.up.hold != "" || p.up.back):
		return upgrade.Version{}, ""
	case p.up != nil:
		return p.up.version, fmt.Sprintf("all OSDs run %s", p.up.version)
	case record != nil && record.Image == p.o.Cluster.Spec.Ceph.Image:
		goal, _ = upgrade.Parse(record.Version)
		return goal, p.o.unreported(record.Version)
	}
	goal, _ = upgrade.Lowest(p.o.Ceph.Releases, osd.Component)
	return goal, ""
}
