package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/disruption"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// Step is one piece of work, as data. A step without a gate may be done now.
type Step struct {
	v1alpha1.PlanStep
	// MakeKeys makes the cluster's first keys.
	MakeKeys bool
	// NewOSD gives a target its key and ID.
	NewOSD *osd.Target
	// MakeClaim makes a claim for an OSD, DropClaim deletes that of one which is no more.
	MakeClaim, DropClaim *corev1.PersistentVolumeClaim
	// Renew is the ID of a destroyed OSD that NewOSD takes; nil is a new ID.
	Renew *int
	// Apply writes objects.
	Apply []client.Object
	// MonOn is the node of a new mon, which has to be fit for one at that moment.
	MonOn string
	// RestartMon is a mon that restarts: its pod has to be admitted anew at that moment.
	RestartMon string
	// SetOut takes an OSD out of the placement of data, or back in.
	SetOut *SetOut
	// SetWeight gives an OSD another CRUSH weight.
	SetWeight *SetWeight
	// RemoveMon takes the mon of this name out of the monmap.
	RemoveMon string
	// Purge takes the OSD with this ID out of Ceph's maps.
	Purge *int
	// EndOSD ends an OSD whose ID another device takes.
	EndOSD *EndOSD
	// NoOut keeps Ceph from making the data of a drained node anew, or ends that.
	NoOut *disruption.NoOut
	// Recheck applies only what a fresh look at the server asks for too.
	Recheck bool
	// Afresh creates only what a look past every cache leads to as well.
	Afresh bool
	// Require has the OSD map let only OSDs of this release or later take part.
	Require string
	// SetOption sets an option of Ceph while daemons run.
	SetOption *SetOption
	// NextKey has Ceph make a user's next key, and writes it down; CommitKey has Ceph take
	// that key alone, before anything else of the step.
	NextKey   *NextKey
	CommitKey *CommitKey
	// NewUser gives a part of the CSI driver a user of another generation, OldUser removes one.
	NewUser *NewUser
	OldUser *OldUser
	// Delete deletes objects, in order.
	Delete []client.Object
	// EndsMon keeps the last name of a mon where no restore loses it, before anything is deleted.
	EndsMon bool
	// Stop deletes Deployments, each of which then stays until its pods are gone.
	Stop []client.Object
	// Create makes objects that do not exist.
	Create []client.Object
	// Recovery is a verb of the rebuilding of a lost quorum.
	Recovery string
	// Destroy writes down that the cluster is destroyed.
	Destroy bool
	// Reason of the blocker that the gate is; empty is NotSafeToRestart.
	Reason string
	// Notes: the step writes down what was seen, and is no part of what an edit leads to.
	Notes bool
	// Failed is why the step did not succeed when it was tried.
	Failed error
	// Wait is a step that others do: a pod that starts, a quorum that forms.
	Wait bool
}

// SetOut says of an OSD whether data is placed on it.
type SetOut struct {
	ID  int
	Out bool
}

func step(name, what, why, gate string) Step {
	return Step{PlanStep: v1alpha1.PlanStep{Name: name, What: what, Why: why, Gate: gate}}
}

// Plan is the ordered list of what leads from what was observed to what is desired.
func Plan(o *Observed, d *Desired) ([]Step, error) {
	o.lookup = lookup{}
	if recovering(o.Cluster) != nil && o.Keys != nil {
		p := &planner{o: o, d: d, steps: recoveryPlan(o, d.helperImage)}
		p.risks()
		return p.steps, nil
	}
	p := &planner{o: o, d: d, up: o.change()}
	for _, part := range []func() error{p.recovery, p.ask, p.keys, p.evictions, p.foundation, p.claims, p.retire, p.mons, p.quorum, p.network, p.options, p.nextKeys, p.mgrs, p.newOSDs, p.osds, p.returns, p.waitForOSDs, p.weights, p.csiKeys, p.removals, p.strayClaims, p.noOut, p.requireRelease, p.canaryFirst} {
		if err := part(); err != nil {
			return nil, err
		}
	}
	p.assess()
	if len(p.steps) > 0 && p.steps[0].Recovery != "" && p.steps[0].Gate == "" {
		return p.steps[:1], nil
	}
	return p.steps, nil
}

type planner struct {
	o       *Observed
	d       *Desired
	up      *change
	steps   []Step
	rolling []restarting // the OSDs whose pods are being replaced
	// anew: that a mon begins anew for its client IDs is one of the steps.
	anew bool
	// restartsMon: one is being restarted, or joins, and until it is in quorum no other does.
	restartsMon bool
}

// placeOf names a node, or a claim whose OSD may be on any.
func placeOf(name string, o *Observed) string {
	if o.claim(name) != nil {
		return "claim " + name
	}
	return "node " + name
}

// restarting is an OSD whose pod is being replaced, and its node or claim.
type restarting struct {
	id   int
	node string
}

func (p *planner) add(s Step) { p.steps = append(p.steps, s) }

// keys come first, and only for a cluster that never had any.
func (p *planner) keys() error {
	if p.o.Keys == nil && p.o.KeysError == nil && !p.o.hadKeys() {
		s := step("keys", "make the cluster's fsid and first keys", "a new cluster begins with them", p.keysGate())
		s.MakeKeys = true
		p.add(s)
	}
	return nil
}

// foundation is what daemons need before they start.
func (p *planner) foundation() error {
	var objects []client.Object
	for _, service := range p.d.MonServices {
		objects = append(objects, service)
	}
	for _, config := range p.d.Configuration {
		objects = append(objects, config)
	}
	for _, keyring := range p.d.Keyrings {
		objects = append(objects, keyring)
	}
	for _, secret := range p.d.OSDSecrets {
		objects = append(objects, secret)
	}
	for _, object := range objects {
		differs, err := kube.Differs(p.o.live(object), object)
		if err != nil {
			return err
		}
		if differs {
			s := step(object.GetName(), "write "+describe(object), "daemons need it before they start", "")
			if _, is := object.(*corev1.Service); is && p.o.Services[object.GetName()] == nil {
				s.MonOn = object.GetAnnotations()[kube.AnnotationNode]
			}
			s.Apply = []client.Object{object}
			p.notes(&s)
			p.add(s)
		}
	}
	return nil
}

// seenOfMons are the annotations of a mon's Service that say what was seen of the mon.
var seenOfMons = []string{kube.AnnotationMissing, kube.AnnotationJoined, kube.AnnotationApart}

// notes says of a step that writes nothing but what was seen of a mon that it does.
func (p *planner) notes(s *Step) {
	wanted, is := s.Apply[0].(*corev1.Service)
	live := p.o.Services[s.Name]
	if !is || live == nil {
		return
	}
	same := wanted.DeepCopy()
	for _, name := range seenOfMons {
		delete(same.Annotations, name)
		if seen, has := live.Annotations[name]; has {
			same.Annotations[name] = seen
		}
	}
	if differs, err := kube.Differs(live, same); err != nil || differs {
		return
	}
	s.Notes = true
	s.What, s.Why = "note what was seen of mon "+wanted.Labels[kube.LabelInstance], "an operator that restarts knows it"
}

// mons are made all at once when the cluster is founded; later ones join, and
// changed ones restart, one at a time while all others are in quorum.
func (p *planner) mons() error {
	const before = "the mon before it is back in quorum"
	return p.daemons(mon.Component, p.d.MonDeployments, func(d *appsv1.Deployment, exists bool) string {
		name := d.Labels[kube.LabelInstance]
		if !p.founded() || !exists && p.member(name) {
			return ""
		}
		except := []string{name}
		if !exists && p.quorumOfOneMore() {
			except = append(except, p.lost()...)
		}
		gate := p.quorumGap(except...)
		if gate == "" && p.restartsMon {
			gate = before
		}
		if gate == "" && !exists {
			gate = p.apartGap("")
		}
		p.restartsMon = p.restartsMon || gate == ""
		return gate
	})
}

// lost are the mons that are out of quorum for longer than the spec allows.
func (p *planner) lost() (names []string) {
	for _, m := range p.o.watchedMons() {
		if p.o.lost(m) {
			names = append(names, m.Name)
		}
	}
	return names
}

// quorumOfOneMore reports whether the mons in quorum are one when another has joined, and
// before that one takes part.
func (p *planner) quorumOfOneMore() bool {
	return p.o.Ceph != nil && 2*len(p.o.Ceph.Status.Quorum) > len(p.o.Ceph.Status.Mons)+1
}

// member reports whether a mon may be one of the monmap: then the quorum only
// gains when it starts. One that is to join needs a quorum to learn from.
func (p *planner) member(name string) bool {
	if p.o.Ceph == nil {
		m := p.o.mon(name)
		return m == nil || m.Joined || slices.Contains(m.Founders, name)
	}
	return slices.Contains(p.o.Ceph.Status.Mons, name)
}

// founded reports whether a quorum has ever been seen.
func (p *planner) founded() bool { return p.o.Cluster.Status.FSID != "" || p.o.Ceph != nil }

// quorumGap says which other mon is missing from the quorum, or soon will be. Those of
// these names are no loss, if they are missing themselves.
func (p *planner) quorumGap(except ...string) string {
	if p.o.Ceph == nil {
		return "the mons have a quorum"
	}
	s := p.o.Ceph.Status
	if missing := without(without(s.Mons, s.Quorum), except); len(missing) > 0 {
		return fmt.Sprintf("mon %s is in quorum", missing[0])
	}
	for _, d := range p.d.MonDeployments {
		other, live := d.Labels[kube.LabelInstance], p.o.Deployments[d.Name]
		if !slices.Contains(except, other) && rolling(live) {
			return fmt.Sprintf("mon %s has restarted", other)
		}
	}
	return ""
}

// rolling reports whether a Deployment's pod is still to be replaced or to
// start. Ceph knows of a restart only after Kubernetes has begun it.
func rolling(d *appsv1.Deployment) bool {
	return d != nil && (d.Status.ObservedGeneration < d.Generation || d.Status.UpdatedReplicas < 1 || d.Status.AvailableReplicas < 1)
}

func without(all, some []string) (rest []string) {
	for _, one := range all {
		if !slices.Contains(some, one) {
			rest = append(rest, one)
		}
	}
	return rest
}

// daemons adds the Deployments that differ, each behind its gate.
func (p *planner) daemons(kind string, deployments []*appsv1.Deployment, gate func(d *appsv1.Deployment, exists bool) string) error {
	for _, deployment := range deployments {
		live := p.o.Deployments[deployment.Name]
		differs, err := kube.Differs(p.o.live(deployment), deployment)
		if err != nil {
			return err
		}
		if !differs {
			continue
		}
		name := kind + "-" + deployment.Labels[kube.LabelInstance]
		what, why := "start "+name, "the spec asks for it"
		if live != nil {
			what, why = "restart "+name+" as the spec says now", whyRestart(live, deployment)
		}
		if node := deployment.Annotations[kube.AnnotationNode]; node != "" {
			what += fmt.Sprintf(" on %s of node %s", deployment.Annotations[kube.AnnotationDevice], node)
		}
		if claim := deployment.Annotations[kube.AnnotationClaim]; claim != "" {
			what += " on claim " + claim
		}
		s := step(name, what, why, gate(deployment, live != nil))
		if s.Apply, s.CommitKey = []client.Object{deployment}, p.o.commits(deployment, live); s.CommitKey != nil {
			s.Gate = cmp.Or(s.Gate, p.unreached())
		}
		p.upgrades(&s, deployment, live)
		p.add(s)
	}
	return nil
}

// quorum waits until every mon takes part.
func (p *planner) quorum() error {
	if p.o.Ceph != nil && len(without(names(p.d.Mons), p.o.Ceph.Status.Quorum)) == 0 {
		return nil
	}
	missing := names(p.d.Mons)
	if p.o.Ceph != nil {
		missing = without(missing, p.o.Ceph.Status.Quorum)
	}
	s := step("quorum", fmt.Sprintf("wait for mon %v to join the quorum%s", missing, p.failoverAt(missing)), "everything else needs the mons", "")
	s.Wait = true
	p.add(s)
	return nil
}

func names(mons []mon.Mon) (out []string) {
	for _, m := range mons {
		out = append(out, m.Name)
	}
	return out
}

// mgrs start with the mons and wait for them by themselves; changed ones
// restart one at a time.
func (p *planner) mgrs() error {
	restarting := false
	err := p.daemons("mgr", p.d.MgrDeployments, func(_ *appsv1.Deployment, exists bool) string {
		switch {
		case !exists:
			return ""
		case p.o.Ceph == nil || p.o.Ceph.Status.ActiveMgr == "":
			return "a mgr is active"
		case restarting:
			return "the mgr before it has restarted"
		}
		restarting = true
		return ""
	})
	if err == nil && p.o.Ceph != nil && p.o.Ceph.Status.ActiveMgr == "" {
		s := step("mgr-active", "wait for a mgr to become active", "placement and statistics need it", "")
		s.Wait = true
		p.add(s)
	}
	return err
}

// newOSDs gives keys and IDs to the targets that have none.
func (p *planner) newOSDs() error {
	gate := ""
	if p.o.Ceph == nil {
		gate = "the mons have a quorum"
	}
	for _, target := range p.d.Targets {
		if p.o.osd(target.UUID) != nil && p.o.OSDKeys[target.UUID] != "" || p.o.lostEncryptionKey(target) {
			continue
		}
		if p.o.Ceph != nil && p.o.leftBehind(target.UUID) {
			if s, ok := p.forget(target, p.o.osdDeployment(target.UUID)); ok {
				p.add(s)
			}
			continue
		}
		s := step(target.Name(), "make an OSD of "+target.Where(), "the spec names the device or a filter matches it", gate)
		if target.Claim != "" {
			s.Why = "the spec asks for it"
		}
		if target.Encrypted {
			s.What = "make an encrypted OSD of " + target.Where()
		}
		s.NewOSD = &target
		if gate != "" || target.Replaces == "" {
			p.add(s)
		} else if s, ok := p.renewal(s, target); ok {
			p.add(s)
		}
	}
	return nil
}

// osds start at once; changed ones restart node by node while all PGs are clean.
func (p *planner) osds() error {
	node := ""
	p.rolling = p.rollingOSDs()
	return p.daemons("osd", p.d.OSDDeployments, func(d *appsv1.Deployment, exists bool) string {
		if known := p.o.osd(d.Annotations[kube.AnnotationUUID]); !exists || known != nil && !known.Up {
			return "" // nothing is lost by starting what does not run
		}
		if gap := unclean(p.o.Ceph); gap != "" {
			return gap
		}
		if p.d.Drain.Waits != "" {
			return p.d.Drain.Waits
		}
		here := osd.Place(d)
		if other := p.rollingElsewhere(here); other != "" {
			return other + " has restarted"
		}
		if node == "" || node == here {
			node = here
			return ""
		}
		return "the OSDs of " + placeOf(node, p.o) + " have restarted"
	})
}

// rollingElsewhere names an OSD of another node whose pod is being replaced.
func (p *planner) rollingElsewhere(node string) string {
	if at := slices.IndexFunc(p.rolling, func(r restarting) bool { return r.node != node }); at >= 0 {
		return fmt.Sprintf("osd.%d", p.rolling[at].id)
	}
	return ""
}

// rollingOSDs are the OSDs whose pods are being replaced.
func (p *planner) rollingOSDs() (found []restarting) {
	for _, d := range p.d.OSDDeployments {
		known := p.o.osd(d.Annotations[kube.AnnotationUUID])
		if known != nil && known.In && rolling(p.o.Deployments[d.Name]) {
			found = append(found, restarting{known.ID, osd.Place(d)})
		}
	}
	return found
}

// unclean says what keeps an OSD from being restarted without risk.
func unclean(state *CephState) string {
	if state == nil {
		return "the mons have a quorum"
	}
	s := state.Status
	if s.OSDsUp < s.OSDsIn {
		return fmt.Sprintf("all OSDs are up (%d of %d are)", s.OSDsUp, s.OSDsIn)
	}
	for _, pgs := range slices.Sorted(maps.Keys(s.PGs)) {
		if !ceph.CleanPG(pgs) {
			return fmt.Sprintf("all PGs are active+clean (%d are %s)", s.PGs[pgs], pgs)
		}
	}
	if state.Unreported != "" {
		return fmt.Sprintf("all PGs have told that they are active+clean (%s)", state.Unreported)
	}
	return ""
}

// waitForOSDs waits until every OSD is up.
func (p *planner) waitForOSDs() error {
	for _, target := range p.d.Targets {
		if known := p.o.osd(target.UUID); known != nil && !known.Up && p.o.osdDeployment(target.UUID) != nil {
			s := step(fmt.Sprintf("osd-%d-up", known.ID), "wait for "+called(known.ID, target)+" to come up", "its data is not served before", "")
			s.Wait = true
			p.add(s)
		}
	}
	return nil
}

// live returns the object as it is, or nil.
func (o *Observed) live(object client.Object) client.Object {
	name := object.GetName()
	switch object.(type) {
	case *corev1.Service:
		return find(o.Services, name)
	case *corev1.ConfigMap:
		return find(o.ConfigMaps, name)
	case *corev1.PersistentVolumeClaim:
		return find(o.Claims, name)
	case *corev1.Secret:
		return find(o.Secrets, name)
	case *appsv1.Deployment:
		return find(o.Deployments, name)
	case *policyv1.PodDisruptionBudget:
		return find(o.Budgets, name)
	}
	return nil
}

// find returns a plain nil for what is not there.
func find[P client.Object](in map[string]P, name string) client.Object {
	if object, ok := in[name]; ok {
		return object
	}
	return nil
}

// describe names an object in a plan: "Service demo-mon-a".
func describe(object client.Object) string {
	if secret, ok := object.(*corev1.Secret); ok && secret.Annotations[kube.AnnotationClaim] != "" {
		return "the Secret of the OSD on claim " + secret.Annotations[kube.AnnotationClaim]
	}
	return strings.TrimPrefix(fmt.Sprintf("%T", object), "*v1.") + " " + object.GetName()
}
