package cluster

import (
	"cmp"
	"fmt"
	"slices"
	"strings"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// An upgrade begins when spec.ceph.image is another image than daemons run:
//
//	a pod asks the image which version it is: a bad name ends here
//	the status keeps what the cluster was like, to be compared with
//	a mgr that stands by goes first
//	the mons, one by one; then the mgrs; then the OSDs, node by node
//	the OSD map takes no OSD of the release before any more
//
// What was done shows in the daemons' Deployments and in what Ceph says that they
// run, so that a crash between two writes changes nothing.

// kinds of daemons in the order in which they are upgraded.
var kinds = []string{mon.Component, mgr.Component, osd.Component}

// change is an upgrade that is under way, or an image put back.
type change struct {
	o       *Observed
	image   string
	version upgrade.Version
	// back: the image is the one that the cluster ran before.
	back bool
	// hold is what every daemon waits for, with the blocker's reason.
	hold, reason string
	// canary is the Deployment that goes first; empty once one has.
	canary string
	proven bool
	// worse is how Ceph's health is worse than before.
	worse string
	// on and behind are the Deployments that run the image, and that do not, by kind.
	on, behind map[string][]*appsv1.Deployment
}

// imageOf the daemon of a Deployment.
func imageOf(d *appsv1.Deployment) string {
	for i := range d.Spec.Template.Spec.Containers {
		return d.Spec.Template.Spec.Containers[i].Image
	}
	return ""
}

// ofKind are the Deployments of a kind of daemon, in order of their names, without
// a mgr that the spec does not ask for any more.
func (o *Observed) ofKind(kind string) (out []*appsv1.Deployment) {
	for _, d := range o.Deployments {
		if d.Labels[kube.LabelComponent] == kind && (kind != mgr.Component || slices.Contains(mgrNames(o.Cluster), d.Labels[kube.LabelInstance])) {
			out = append(out, d)
		}
	}
	slices.SortFunc(out, func(a, b *appsv1.Deployment) int { return cmp.Compare(a.Name, b.Name) })
	return out
}

// changing reports whether a daemon runs another image than the spec's.
func (o *Observed) changing() bool {
	return slices.ContainsFunc(kinds, func(kind string) bool {
		return slices.ContainsFunc(o.ofKind(kind), func(d *appsv1.Deployment) bool { return imageOf(d) != o.Cluster.Spec.Ceph.Image })
	})
}

// change is nil when all daemons run the spec's image, and before there ever was a quorum.
func (o *Observed) change() *change {
	if !o.changing() || o.Cluster.Status.FSID == "" && o.Ceph == nil {
		return nil
	}
	c := &change{o: o, image: o.Cluster.Spec.Ceph.Image, on: map[string][]*appsv1.Deployment{}, behind: map[string][]*appsv1.Deployment{}}
	for _, kind := range kinds {
		for _, d := range o.ofKind(kind) {
			to := c.behind
			if imageOf(d) == c.image {
				to = c.on
			}
			to[kind] = append(to[kind], d)
		}
	}
	record := o.Cluster.Status.Upgrade
	c.back = c.image == o.Cluster.Status.Image
	version, known := o.version()
	c.version = version
	switch {
	case c.back && (record == nil || o.Ceph == nil):
	case o.Ceph == nil || o.Ceph.Releases == nil:
		c.hold = "the mons have a quorum"
	case !known:
		c.hold = "the image " + c.image + " has said which version of Ceph it is"
	default:
		c.judge(record)
	}
	return c
}

// judge says whether the cluster may go to a version that is known.
func (c *change) judge(record *v1alpha1.UpgradeStatus) {
	if why := upgrade.Refuse(c.version, c.o.Ceph.Releases); why != "" {
		c.hold, c.reason = why, v1alpha1.ReasonUpgradeRefused
		return
	}
	if c.back {
		return
	}
	if record == nil || record.Image != c.image {
		if unknown := c.o.unknownToImage(); len(unknown) > 0 {
			c.hold, c.reason = c.version.String()+" does not know "+strings.Join(unknown, ", ")+". Take them out of spec.ceph.config first", v1alpha1.ReasonUpgradeRefused
			return
		}
		c.hold = "the status says how healthy the cluster is before the upgrade"
		return
	}
	c.worse = upgrade.Worse(record.HealthBefore, c.o.Ceph.Status.Checks)
	for _, kind := range kinds {
		c.proven = c.proven || c.o.Ceph.Releases.Daemons[kind][c.version.String()] > 0 &&
			slices.ContainsFunc(c.on[kind], func(d *appsv1.Deployment) bool { return !rolling(d) })
	}
	if len(c.on[mon.Component])+len(c.on[mgr.Component])+len(c.on[osd.Component]) == 0 {
		c.canary = c.chooseCanary()
	}
}

// chooseCanary is a mgr: it keeps nothing on disk that a later version could
// change, and none of the cluster's data waits for it. One that does not run
// comes first, then one that stands by.
func (c *change) chooseCanary() string {
	standing := func(d *appsv1.Deployment) int {
		switch {
		case rolling(d):
			return 0
		case d.Labels[kube.LabelInstance] != c.o.Ceph.Status.ActiveMgr:
			return 1
		}
		return 2
	}
	if len(c.behind[mgr.Component]) == 0 {
		return ""
	}
	return slices.MinFunc(c.behind[mgr.Component], func(a, b *appsv1.Deployment) int { return cmp.Compare(standing(a), standing(b)) }).Name
}

// version of the spec's image, as far as it is known.
func (o *Observed) version() (v upgrade.Version, known bool) {
	text, known := upgrade.Answer(o.pod(upgrade.PodName(o.Cluster)))
	if record := o.Cluster.Status.Upgrade; record != nil {
		switch o.Cluster.Spec.Ceph.Image {
		case record.Image:
			text, known = record.Version, true
		case o.Cluster.Status.Image:
			text, known = record.From, true
		}
	}
	v, err := upgrade.Parse(text)
	return v, known && err == nil
}

func (o *Observed) pod(name string) *corev1.Pod {
	for i := range o.Pods {
		if o.Pods[i].Name == name {
			return &o.Pods[i]
		}
	}
	return nil
}

// gate is what a daemon waits for; base is what its restart for any other reason
// would wait for.
func (c *change) gate(d *appsv1.Deployment, base string) (gate, reason string) {
	kind := d.Labels[kube.LabelComponent]
	switch {
	case c.hold != "":
		return c.hold, c.reason
	case c.back:
		return c.gateBack(d, base), ""
	case d.Name == c.canary:
		return "", ""
	case !c.proven:
		return fmt.Sprintf("a mgr runs %s, before any other daemon does", c.version), ""
	}
	gate = cmp.Or(c.earlier(kind), c.o.unreported(c.version.String()), base)
	if gate == "" && c.worse != "" {
		gate = "Ceph's health is as it was before the upgrade (now " + c.worse + ")"
	}
	if gate != "" && c.worse != "" && !c.settling() {
		reason = v1alpha1.ReasonUpgradeHalted
	}
	return gate, reason
}

// gateBack lets a daemon have the image back that the others run. A mon that
// does not run is no loss to a quorum that is not there.
func (c *change) gateBack(d *appsv1.Deployment, base string) string {
	if c.o.Ceph == nil && d.Labels[kube.LabelComponent] == mon.Component && rolling(c.o.Deployments[d.Name]) {
		return ""
	}
	return base
}

// earlier names a kind of daemon that is upgraded before this one.
func (c *change) earlier(kind string) string {
	for _, before := range kinds[:slices.Index(kinds, kind)] {
		if n := len(c.behind[before]); n > 0 {
			return fmt.Sprintf("all %ss run %s (%d of %d do)", before, c.version, len(c.on[before]), len(c.on[before])+n)
		}
	}
	return ""
}

// unreported says that a daemon which has the image has not told Ceph that it
// runs the image's version: it starts still, or another image is behind the name.
func (o *Observed) unreported(version string) string {
	image := o.Cluster.Spec.Ceph.Image
	for _, kind := range kinds {
		all := o.ofKind(kind)
		has := len(slices.DeleteFunc(all, func(d *appsv1.Deployment) bool { return imageOf(d) != image }))
		if says := o.Ceph.Releases.Daemons[kind][version]; says < has {
			return fmt.Sprintf("each %s that has %s tells Ceph that it runs %s (%d of %d do)", kind, image, version, says, has)
		}
	}
	return ""
}

// settle is how long a daemon that starts may make Ceph's health worse, before
// that counts as the upgrade's.
const settle = time.Minute

// settling reports whether a daemon has just been started.
func (c *change) settling() bool {
	return slices.ContainsFunc(c.o.Pods, func(pod corev1.Pod) bool {
		return slices.Contains(kinds, pod.Labels[kube.LabelComponent]) && pod.Status.StartTime != nil && c.o.Now.Sub(pod.Status.StartTime.Time) < settle
	})
}

// oldImages keeps daemons that are made while an upgrade is under way on the
// image of before, until those of their kind have the other: they get their turn.
func (d *Desired) oldImages(o *Observed) {
	before := o.Cluster.Status.Image
	if before == "" || before == o.Cluster.Spec.Ceph.Image {
		return
	}
	for kind, deployments := range map[string][]*appsv1.Deployment{mon.Component: d.MonDeployments, mgr.Component: d.MgrDeployments, osd.Component: d.OSDDeployments} {
		isOld := func(d *appsv1.Deployment) bool { return imageOf(d) != o.Cluster.Spec.Ceph.Image }
		if live := o.ofKind(kind); len(live) > 0 && !slices.ContainsFunc(live, isOld) {
			continue
		}
		for _, made := range deployments {
			if o.Deployments[made.Name] == nil {
				made.Spec.Template.Spec.Containers[0].Image = before
			}
		}
	}
}

// tentacle is the first release with keys of the type that Cairn prefers.
const tentacle = 20

// newKey makes a key of the type of the cluster's first ones, which all its
// daemons know and its mons let in, or the first of a type that the image knows.
func (o *Observed) newKey() (ceph.Key, error) {
	version, known := o.version()
	legacy := known && version.Release < tentacle
	if o.Keys != nil {
		legacy = o.Keys.Keys["mon."].Legacy()
	}
	if legacy {
		return ceph.NewLegacyKey(o.Now)
	}
	return ceph.NewKey(o.Now)
}
