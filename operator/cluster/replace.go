package cluster

import (
	"fmt"
	"maps"
	"slices"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// A device that replaces another takes its OSD's ID and place in the CRUSH map, in steps
// that are each seen from what there is:
//
//	the Secret of the old OSD says that it leaves, and bears its ID
//	an OSD whose device is lost is not drained: it has nothing to give; any other is, as when it is removed
//	its daemon is stopped, once Ceph says that it is not needed: of a lost one, that all is served without it
//	Ceph, which looks once more, ends it and keeps the ID
//	the new device's OSD gets a key and that ID, is prepared and starts; data flows back to it
//	the old Secret is deleted; one with the key of an encrypted disk, and a DB device that the new OSD has no use for, only while all PGs are clean

// EndOSD is an OSD that ends, and whether its device is lost.
type EndOSD struct {
	ID   int
	UUID string
	Lost bool
}

const whyReplaced = "the spec names another device in place of its own"

// takesThePlace reports whether a target takes the place of an OSD.
func takesThePlace(target, old osd.Target) bool {
	return target.Replaces != "" && target.Replaces == old.Device && target.Node == old.Node && target.UUID != old.UUID
}

// replaced returns the target that takes the place of an OSD, or nil.
func replaced(targets []osd.Target, old osd.Target) *osd.Target {
	if at := slices.IndexFunc(targets, func(t osd.Target) bool { return takesThePlace(t, old) }); at >= 0 {
		return &targets[at]
	}
	return nil
}

// replacement is the device that the spec names in place of an OSD's; empty for an
// OSD that just leaves.
func (o *Observed) replacement(old osd.Target) string {
	if old.Claim != "" {
		return ""
	}
	for _, node := range o.Cluster.Spec.Storage.Nodes {
		at := slices.IndexFunc(node.Devices, func(d v1alpha1.StorageDevice) bool { return d.Replaces == old.Device })
		if node.Name == old.Node && at >= 0 {
			return node.Devices[at].Name
		}
	}
	return ""
}

// replaceGap says what must hold before an OSD makes room for the one that replaces it.
func (p *planner) replaceGap(old osd.Target, known *ceph.OSD) string {
	by := replaced(p.d.Targets, old)
	switch {
	case by == nil:
		return "the device " + p.o.replacement(old) + " is there and usable"
	case p.o.osd(by.UUID) != nil:
		return fmt.Sprintf("it is free: %s has an OSD of its own already. Leave out 'replaces', and the old OSD is removed", by.Device)
	}
	if id, ok := osd.ID(p.o.Secrets[osd.SecretName(p.o.Cluster, old.UUID)]); !ok || id != known.ID || !p.o.marked(old.UUID) {
		return "the Secret of the OSD bears its ID and says that it leaves"
	}
	// The place has the weight of the old device, in TiB with four decimals; the spec may give the
	// new one the same.
	const rounding = 1e-4
	if size := p.o.sizeOf(*by) / tib; size < known.Weight*0.99-rounding && !exactly(known.Weight, by.Weight) {
		return fmt.Sprintf("it has the size for that place: %s has %.1f GiB, and the place in Ceph's CRUSH map is for %.1f GiB. Take a larger device, or say that this one is to have the weight of the place (weight: %.5fTi), or leave out 'replaces': it then becomes an OSD of its own size, under a new ID",
			by.Device, size*1024, known.Weight*1024, known.Weight)
	}
	return ""
}

// sizeOf a target's devices in bytes: the weight of an OSD counts that of its database.
func (o *Observed) sizeOf(t osd.Target) float64 {
	size := 0.0
	for _, name := range []string{t.Device, t.DB} {
		if device := osd.Find(o.Inventory[t.Node], name); device != nil && name != "" {
			size += float64(device.Size.Value())
		}
	}
	return size
}

// destroyed reports whether an ID waits for another device.
func (o *Observed) destroyed(id int) bool {
	return slices.ContainsFunc(o.Ceph.OSDs, func(known ceph.OSD) bool { return known.ID == id && known.Destroyed })
}

// renewal completes the step that makes an OSD of a device that replaces another; there is
// none while the other has not made room.
func (p *planner) renewal(s Step, target osd.Target) (Step, bool) {
	secret := p.o.whosePlace(target)
	if secret == nil {
		s.Gate, s.Reason = fmt.Sprintf("'replaces' names the device of an OSD: there is none on %s of node %s. Correct spec.storage.nodes[%s].devices, or leave out 'replaces'",
			target.Replaces, target.Node, target.Node), v1alpha1.ReasonDeviceNotFound
		return s, true
	}
	old := osd.TargetOf(secret)
	wanted := func(t osd.Target) bool { return t.UUID == old.UUID }
	if slices.ContainsFunc(p.d.Targets, wanted) {
		s.Gate, s.Reason = fmt.Sprintf("spec.storage no longer names the device that it replaces (%s on node %s), under whatever name", old.Device, old.Node), v1alpha1.ReasonDeviceRefused
		return s, true
	}
	if _, left := p.freeDB(old); left && (p.o.needsDBOf(target, old) || p.o.Jobs[p.o.freeingName(old.UUID)] != nil) {
		return s, false
	}
	if id, ok := osd.ID(secret); ok && p.o.destroyed(id) {
		s.What, s.Why, s.Renew = fmt.Sprintf("%s, in the place of osd.%d", s.What, id), whyReplaced, &id
		return s, true
	}
	return s, p.o.osd(old.UUID) == nil
}

// whosePlace is the Secret of the OSD whose place a target takes, nil for none: of a slot whose disk was
// replaced twice that of the OSD whose ID waits for another device, or that Ceph knows still.
func (o *Observed) whosePlace(target osd.Target) (found *corev1.Secret) {
	for _, name := range slices.Sorted(maps.Keys(o.Secrets)) {
		secret := o.Secrets[name]
		uuid := secret.Annotations[kube.AnnotationUUID]
		if uuid == "" || !takesThePlace(target, osd.TargetOf(secret)) {
			continue
		}
		if id, ok := osd.ID(secret); ok && o.destroyed(id) {
			return secret
		}
		if found == nil || o.osd(uuid) != nil {
			found = secret
		}
	}
	return found
}

// lostAndReplaced reports whether an OSD's device is lost, and the spec names another
// in its place.
func (o *Observed) lostAndReplaced(known *ceph.OSD) bool {
	secret := o.Secrets[osd.SecretName(o.Cluster, known.UUID)]
	return secret != nil && o.replacement(osd.TargetOf(secret)) != "" && o.deviceLost(known, osd.TargetOf(secret))
}

// comesBack reports whether an OSD that leaves, and was stopped, is to run again.
func (o *Observed) comesBack(known *ceph.OSD) bool {
	if o.lostAndReplaced(known) {
		return o.Ceph.Missed[known.ID] != ""
	}
	return known.In || o.Ceph.Needed[known.ID] != ""
}

// deviceLost reports whether an OSD is down, and no node shows a device with its label: its
// device is gone, cannot be read, or holds something else.
func (o *Observed) deviceLost(known *ceph.OSD, t osd.Target) bool {
	return t.Claim == "" && !known.Up && o.Inventory[t.Node] != nil && o.nodeWith(t) == ""
}
