package cluster

import (
	"fmt"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// An OSD whose device is taken out of the spec leaves in steps, each of which is
// seen from what there is, so that a crash between two of them changes nothing:
//
//	its Secret says that it leaves
//	Ceph takes it out of the placement of data, and moves its data elsewhere
//	Ceph says that nothing needs it any more: its daemon is stopped
//	it is purged from Ceph's maps, where Ceph looks once more
//	its disk is emptied, where spec.storage.onRemoval is Wipe
//	its Secret is deleted
//
// What it takes to read its disk, the key of an encrypted one and its DB device, goes only
// while all PGs are clean: until then that disk may be the last that has something.
//
// Until the daemon is stopped the spec can take the device back.

// leaving are the OSDs that the spec has let go of, by their Secrets: those are
// the last that is left of them.
func (o *Observed) leaving(targets []osd.Target) (leaving []osd.Target) {
	wanted := uuids(targets)
	for _, secret := range o.Secrets {
		t := osd.TargetOf(secret)
		if t.UUID == "" || wanted[t.UUID] {
			continue
		}
		if t.Claim != "" && o.claimLeaves(t) || t.Claim == "" && (replaced(targets, t) != nil || o.Ceph != nil && o.leftBehind(t.UUID) || osd.Left(o.Cluster.Spec.Storage, t, o.Inventory[t.Node], o.marked(t.UUID))) {
			leaving = append(leaving, t)
		}
	}
	slices.SortFunc(leaving, func(a, b osd.Target) int { return strings.Compare(a.Name(), b.Name()) })
	return leaving
}

// marked reports whether an OSD's Secret says that it leaves.
func (o *Observed) marked(uuid string) bool {
	secret := o.Secrets[osd.SecretName(o.Cluster, uuid)]
	return secret != nil && secret.Annotations[kube.AnnotationLeaving] != ""
}

// returns takes OSDs back that the spec names again before they were gone.
func (p *planner) returns() error {
	for _, target := range p.d.Targets {
		if known := p.o.osd(target.UUID); known != nil && !known.In && p.o.marked(target.UUID) {
			s := step(fmt.Sprintf("osd-%d-return", known.ID), fmt.Sprintf("place data on %s again", called(known.ID, target)), "the spec names its device again", "")
			s.SetOut = &SetOut{ID: known.ID}
			p.add(s)
		}
	}
	return nil
}

// removals are the next steps of the OSDs that leave.
func (p *planner) removals() error {
	for _, target := range p.d.Leaving {
		if p.o.Ceph == nil {
			p.add(step(target.Name(), "remove the OSD of "+target.Where(), whyLeaving, "the mons have a quorum"))
			continue
		}
		if s, ok := p.removal(target); ok {
			p.add(s)
		}
	}
	return nil
}

const whyLeaving = "the spec does not name its device any more"

const whyClaimLeaves = "the spec does not ask for its claim any more"

// removal is the next step of an OSD that leaves; none while another has to come first.
func (p *planner) removal(target osd.Target) (Step, bool) {
	deployment := p.o.osdDeployment(target.UUID)
	known := p.o.osd(target.UUID)
	if known == nil {
		return p.forget(target, deployment)
	}
	name, it := fmt.Sprintf("osd-%d", known.ID), called(known.ID, target)
	needed, asked := p.o.Ceph.Needed[known.ID]
	by, why := p.o.replacement(target), whyLeaving
	lost := p.o.lostAndReplaced(known)
	switch {
	case by != "":
		why = whyReplaced
	case target.Claim != "":
		why = whyClaimLeaves
	}
	if lost {
		needed, asked = p.o.Ceph.Missed[known.ID]
	}
	switch {
	case by != "" && p.replaceGap(target, known) != "":
		s := step(name+"-replace", "replace "+it+" by "+by, why, p.replaceGap(target, known))
		s.Reason = v1alpha1.ReasonNotSafeToRemove
		return s, true
	case known.In && !lost:
		gate := p.drainGate(known, target)
		if gate != "" && by != "" {
			gate += ". Or leave out 'replaces': the new device then starts before this one leaves"
		}
		s := step(name+"-drain", "move the data of "+it+" elsewhere", why, gate)
		s.Reason = v1alpha1.ReasonNotSafeToRemove
		s.SetOut = &SetOut{ID: known.ID, Out: true}
		return s, true
	case !asked || needed != "":
		s := step(name+"-drained", fmt.Sprintf("wait until nothing needs %s: %s", it, needed), "its data is moved elsewhere before it is removed", "")
		s.Wait = true
		return s, true
	case deployment != nil:
		s := step(name+"-stop", "stop "+it, "all its data is elsewhere", "")
		s.Risk = v1alpha1.RiskNone
		s.Delete = []client.Object{deployment}
		return s, true
	case known.Up:
		s := step(name+"-stopped", "wait for "+it+" to stop", "an OSD that runs is not removed", "")
		s.Wait = true
		return s, true
	case by != "":
		s := step(name+"-destroy", "end "+it+" in Ceph, and keep its ID and place for "+by, why, "")
		s.EndOSD = &EndOSD{ID: known.ID, UUID: known.UUID, Lost: lost}
		return s, true
	}
	s := step(name+"-purge", "remove "+it+" from Ceph's maps", "all its data is elsewhere", "")
	s.Purge = &known.ID
	return s, true
}

// forget deletes the last of an OSD that Ceph does not know any more; its ID comes first,
// where that waits for another device.
func (p *planner) forget(target osd.Target, deployment *appsv1.Deployment) (Step, bool) {
	secret := p.o.Secrets[osd.SecretName(p.o.Cluster, target.UUID)]
	if s, left := p.passOn(target, secret); left {
		return s, true
	}
	if s, left := p.freeDB(target); left {
		return s, true
	}
	if id, ok := osd.ID(secret); ok && p.o.destroyed(id) {
		return p.giveUp(id, target), p.o.replacement(target) == ""
	}
	if s, left := p.wipeDisk(target, deployment); left {
		return s, true
	}
	if claim := p.o.claimOf(target); claim != nil && claim.DeletionTimestamp == nil && deployment == nil && !p.o.wantsClaim(target.Claim) {
		return p.dropClaim(claim), true
	}
	s := step(target.Name(), "forget the key of the OSD of "+target.Where()+p.o.notWiped(target), "Ceph knows it no more", p.keyGate(target, secret))
	s.Risk = v1alpha1.RiskNone
	switch {
	case s.Gate != "" && deployment != nil:
		s.What, s.Gate, s.Delete = "stop the OSD of "+target.Where(), "", []client.Object{deployment}
		return s, true
	case s.Gate != "":
		s.Reason = v1alpha1.ReasonNotSafeToRemove
	case deployment != nil:
		s.Delete = append(s.Delete, deployment)
	}
	s.Delete = append(s.Delete, secret)
	return s, true
}

// keyGate says what must hold before the Secret of an OSD that has left is deleted: with it
// goes the key of an encrypted disk.
func (p *planner) keyGate(target osd.Target, secret *corev1.Secret) string {
	if len(osd.EncryptionKey(secret)) == 0 {
		return ""
	}
	gate := p.cleanGate(target)
	if gate != "" {
		gate += ": until then its disk, which is encrypted, may be the last that has something, and nobody reads it without the key"
	}
	return gate
}

// cleanGate says what must hold before an OSD's disk becomes unreadable. There is nothing to
// wait for when the spec names a blank device in its place, under the same name.
func (p *planner) cleanGate(target osd.Target) string {
	device := osd.Find(p.o.Inventory[target.Node], target.Device)
	if device != nil && device.Usable && slices.ContainsFunc(p.d.Targets, func(t osd.Target) bool { return t.UUID == target.UUID }) {
		return ""
	}
	return unclean(p.o.Ceph)
}

// passOn writes down that the ID of an OSD is another's now, where its Secret stays for a while:
// by two Secrets with one ID nobody could tell whose place that is.
func (p *planner) passOn(target osd.Target, secret *corev1.Secret) (s Step, left bool) {
	id, ok := osd.ID(secret)
	if !ok || !target.Encrypted && target.DB == "" || p.cleanGate(target) == "" || !p.o.passedOn(id) {
		return s, false
	}
	s = step(target.Name()+"-id", fmt.Sprintf("write down that osd.%d is not on %s any more", id, target.Where()), "another device has its place", "")
	s.Risk, s.Apply = v1alpha1.RiskNone, []client.Object{osd.WithoutID(secret)}
	return s, true
}

// passedOn reports whether an ID is that of an OSD that is not destroyed.
func (o *Observed) passedOn(id int) bool {
	return slices.ContainsFunc(o.Ceph.OSDs, func(known ceph.OSD) bool { return known.ID == id && !known.Destroyed })
}

// giveUp is the next step of an ID that was kept for another device, which never came.
func (p *planner) giveUp(id int, target osd.Target) Step {
	name, it, why := fmt.Sprintf("osd-%d", id), called(id, target), "the spec names no device in its place any more"
	needed, asked := p.o.Ceph.Needed[id]
	switch {
	case !asked:
		s := step(name+"-drain", "place the data of "+it+" elsewhere", why, "")
		s.SetOut = &SetOut{ID: id, Out: true}
		return s
	case needed != "":
		s := step(name+"-drained", fmt.Sprintf("wait until nothing needs %s: %s", it, needed), why, "")
		s.Wait = true
		return s
	}
	s := step(name+"-purge", "remove "+it+" from Ceph's maps", why, "")
	s.Purge = &id
	return s
}

// called names an OSD by its ID and where it is.
func called(id int, t osd.Target) string {
	return fmt.Sprintf("osd.%d (%s)", id, t.Where())
}

// drainGate says what must hold before an OSD's data is moved: the Secret remembers
// it, the OSDs that take its place are there, and there is room on enough of them.
func (p *planner) drainGate(leaving *ceph.OSD, it osd.Target) string {
	if !p.o.marked(leaving.UUID) {
		return "the Secret of the OSD says that it leaves"
	}
	var stay []ceph.OSD
	for _, target := range p.d.Targets {
		known := p.o.osd(target.UUID)
		if known == nil && takesThePlace(target, it) {
			continue // it starts when the other is gone
		}
		if known == nil || known.Weight == 0 || known.New {
			return "the OSD of " + target.Where() + " has started"
		}
		if known.Up && known.In {
			stay = append(stay, *known)
		}
	}
	if len(p.d.NewClaims) > 0 {
		return "the OSD of claim " + p.d.NewClaims[0].Name + " has started"
	}
	if gap := p.roomGap(stay); gap != "" {
		return gap
	}
	return p.domainGap(stay)
}

// roomGap says that the OSDs that stay cannot hold what is stored.
func (p *planner) roomGap(stay []ceph.OSD) string {
	room := room(stay)
	if used := p.o.Ceph.Status.BytesUsed; float64(used) > room {
		return "the OSDs that stay have room for what is stored: " + tooMuch(used, room)
	}
	return ""
}

// domainGap says which pool would have fewer failure domains than replicas, and
// had enough with the OSDs that leave.
func (p *planner) domainGap(stay []ceph.OSD) string {
	for i := range p.o.Pools {
		spec := &p.o.Pools[i].Spec
		left := osd.Domains(stay, spec.FailureDomain, string(spec.DeviceClass), p.o.hosts())
		if left >= spec.Copies() {
			continue
		}
		what, or := "replicas", ", or lower the pool's replicas"
		if spec.ErasureCoded != nil {
			what, or = "chunks", ""
		}
		return fmt.Sprintf("BlockPool %s has a %s for each of its %d %s: %d would be left. Add a device elsewhere first%s",
			p.o.Pools[i].Name, spec.FailureDomain, spec.Copies(), what, left, or)
	}
	return ""
}
