package cluster

import (
	"fmt"
	"math"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// A weight that the spec gives a device is what its OSD starts with, and what it gets while it
// runs. The OSD's Secret says so first: by that a weight that goes back to that of the size,
// when the spec gives none any more, is told from one that a person chose in Ceph.

// exactly says that a weight is as it was asked for, up to how Ceph writes it.
func exactly(weight, asked float64) bool {
	const rounding = 1e-4
	return math.Abs(weight-asked) <= rounding
}

// initialWeight is the weight that an OSD gives itself at its first start; its Deployment
// keeps it, so that no OSD restarts when the spec changes.
func initialWeight(t osd.Target, known *ceph.OSD, live *appsv1.Deployment) string {
	switch {
	case live != nil:
		return osd.FirstWeight(live)
	case known.Weight > 0:
		return ""
	}
	return osd.Initial(t.Weight)
}

// weightChosen reports whether the Secret of an OSD says that its weight comes from the spec.
func (o *Observed) weightChosen(uuid string) bool {
	secret := o.Secrets[osd.SecretName(o.Cluster, uuid)]
	return secret != nil && secret.Annotations[kube.AnnotationChosenWeight] != ""
}

// noteChosen has the Secret of an OSD say that its weight comes from the spec, until it is
// that of the size again.
func (o *Observed) noteChosen(secret *corev1.Secret, t osd.Target, known *ceph.OSD, leaves bool) {
	back := known.Up && known.In && !t.Kept && !leaves && exactly(known.Weight, float64(known.BytesTotal)/tib)
	if t.Weight > 0 || o.weightChosen(t.UUID) && !back {
		secret.Annotations[kube.AnnotationChosenWeight] = "true"
	}
}

// weighing is the change of weight that an OSD is due, and why; nil is none.
func (o *Observed) weighing(t osd.Target, known *ceph.OSD) (set *SetWeight, why string) {
	size := float64(known.BytesTotal) / tib
	set = &SetWeight{ID: known.ID, UUID: known.UUID, From: known.Weight, To: t.Weight}
	switch {
	case !known.Up || !known.In || known.Weight == 0 && t.Weight == 0:
		return nil, ""
	case t.Weight > 0 && !exactly(known.Weight, t.Weight):
		return set, "the spec gives its device this weight"
	case t.Weight > 0, t.Kept && o.weightChosen(t.UUID):
		return nil, ""
	case o.weightChosen(t.UUID) && size > 0 && !exactly(known.Weight, size):
		set.To = size
		return set, "the spec gives its device no weight any more: it is that of the size"
	}
	return o.grown(known), "its device has grown, and takes its share of the data then"
}

// weights gives OSDs the weights that they are due, all at once: what has to move moves once.
func (p *planner) weights() error {
	var due []Step
	for _, target := range p.d.Targets {
		known := p.o.osd(target.UUID)
		if known == nil {
			continue
		}
		set, why := p.o.weighing(target, known)
		if set == nil {
			continue
		}
		verb, gate := "raise", unclean(p.o.Ceph)
		if set.To < set.From {
			verb = "lower"
		}
		if target.Weight > 0 && !p.o.weightChosen(target.UUID) {
			gate = "the Secret of the OSD says that its weight comes from the spec"
		}
		s := step(fmt.Sprintf("osd-%d-weight", known.ID), fmt.Sprintf("%s the CRUSH weight of %s from %.4f to %.4f TiB", verb, called(known.ID, target), set.From, set.To), why, gate)
		s.SetWeight, s.Reason = set, v1alpha1.ReasonNotSafeToChange
		due = append(due, s)
	}
	if gap := p.o.weightsGap(due); gap != "" {
		for i := range due {
			due[i].Gate = gap
		}
	}
	p.steps = append(p.steps, due...)
	return nil
}

// weightsGap says that the OSDs could not hold what is stored with other weights, and can
// hold more with those that they have.
func (o *Observed) weightsGap(due []Step) string {
	if len(due) == 0 {
		return ""
	}
	osds := o.placedOSDs()
	before := room(osds)
	for i := range osds {
		for _, s := range due {
			if s.SetWeight.ID == osds[i].ID {
				osds[i].Weight = s.SetWeight.To
			}
		}
	}
	used := o.Ceph.Status.BytesUsed
	if after := room(osds); after < before && float64(used) > after {
		return "the OSDs have room for what is stored when each has the weight asked for: " + tooMuch(used, after)
	}
	return ""
}

// placedOSDs are the OSDs on which data is placed.
func (o *Observed) placedOSDs() (osds []ceph.OSD) {
	for i := range o.Ceph.OSDs {
		if o.Ceph.OSDs[i].In {
			osds = append(osds, o.Ceph.OSDs[i])
		}
	}
	return osds
}

// full is the part of the capacity that Ceph lets be used before it warns.
const full = 0.85

// room is how many bytes OSDs take together. Each gets data by its weight, so that the one
// with the least size for its weight is full first, and ends it for all.
func room(osds []ceph.OSD) float64 {
	weights, least := 0.0, math.Inf(1)
	for i := range osds {
		if osds[i].Weight == 0 {
			continue
		}
		size := 1.0 // for its weight: Ceph has not said the OSD's size yet
		if osds[i].BytesTotal > 0 {
			size = float64(osds[i].BytesTotal) / tib / osds[i].Weight
		}
		weights, least = weights+osds[i].Weight, min(least, size)
	}
	if weights == 0 {
		return 0
	}
	return weights * least * tib * full
}

func tooMuch(used int64, room float64) string {
	const gib = 1 << 30
	return fmt.Sprintf("%.1f GiB are used, and they take %.1f GiB. Add devices, or delete volumes", float64(used)/gib, room/gib)
}
