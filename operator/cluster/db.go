package cluster

import (
	"fmt"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/osd"
)

// An OSD gets its DB device when it is made. Its Secret says which, and what the spec says
// later changes nothing: an OSD without its database is lost, and one that was made without
// has no use for one.

// withDBs are the targets with the DB devices that their OSDs have, and of the new ones
// those whose DB devices can serve them.
func (d *Desired) withDBs(o *Observed, targets []osd.Target) (settled []osd.Target) {
	var fresh []osd.Target
	for _, target := range targets {
		if had, known := o.madeWith(target.UUID); known {
			d.keepDB(o, &target, had)
			settled = append(settled, target)
		} else {
			fresh = append(fresh, target)
		}
	}
	made := len(settled)
	for _, target := range fresh {
		if problem := o.wrongDB(target, targets, settled); problem != nil {
			d.Problems = append(d.Problems, *problem)
			continue
		}
		settled = append(settled, target)
	}
	return inOrder(targets, settled, made)
}

// inOrder keeps the order of the spec.
func inOrder(targets, settled []osd.Target, made int) (out []osd.Target) {
	if made == 0 || made == len(settled) {
		return settled
	}
	by := make(map[string]osd.Target, len(settled))
	for _, target := range settled {
		by[target.UUID] = target
	}
	for _, target := range targets {
		if target, ok := by[target.UUID]; ok {
			out = append(out, target)
		}
	}
	return out
}

// madeWith is the DB device that an OSD was made with, if it was made.
func (o *Observed) madeWith(uuid string) (db string, known bool) {
	secret := o.Secrets[osd.SecretName(o.Cluster, uuid)]
	if secret == nil {
		return "", false
	}
	return osd.TargetOf(secret).DB, true
}

// keepDB gives an OSD the DB device that it was made with, under the name that the spec
// has for it now. Any other is said to change nothing.
func (d *Desired) keepDB(o *Observed, target *osd.Target, had string) {
	asked, seen := target.DB, o.Inventory[target.Node]
	if asked == had {
		return
	}
	if device := osd.Find(seen, asked); device != nil && had != "" && device.DBOf == target.UUID {
		return
	}
	target.DB = had
	is, wants := "without a DB device", "has dbDevice "+asked
	if had != "" {
		is = "with its database on " + had
	}
	if asked == "" {
		wants = "has no dbDevice"
	}
	d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonDBDeviceChanged, Message: fmt.Sprintf(
		"the OSD of device %q on node %s was made %s, and spec.storage.nodes[%[2]s] %[4]s: that changes nothing, an OSD gets its DB device when it is made. Take the change back; or take the device out, and when its OSD has left, wipe the device and name it again",
		target.Device, target.Node, is, wants)})
}

// wrongDB says why a new target cannot have the DB device that the spec names.
func (o *Observed) wrongDB(target osd.Target, named, settled []osd.Target) *osd.Problem {
	if target.DB == "" {
		return nil
	}
	seen := o.Inventory[target.Node]
	if problem := osd.CheckDB(target, seen, o.databasesLeft(target)...); problem != nil {
		return problem
	}
	device := osd.Find(seen, target.DB)
	for _, other := range named {
		if other.Node == target.Node && osd.Find(seen, other.Device) == device {
			return &osd.Problem{Reason: v1alpha1.ReasonDeviceRefused, Message: fmt.Sprintf(
				"DB device %q of device %q on node %s is named as a device itself. Leave it out of spec.storage.nodes[%[3]s].devices, or leave dbDevice out", target.DB, target.Device, target.Node)}
		}
	}
	for _, other := range settled {
		if other.Node == target.Node && other.DB != "" && osd.Find(seen, other.DB) == device {
			return &osd.Problem{Reason: v1alpha1.ReasonDeviceRefused, Message: fmt.Sprintf(
				"DB device %q on node %s is named for both %q and %q, and serves one OSD alone. Name another one for %[4]q, such as a second namespace of the NVMe disk, or leave dbDevice out",
				target.DB, target.Node, other.Device, target.Device)}
		}
	}
	return nil
}

// databasesLeft are the OSDs whose place a target takes: their databases go before it is made.
func (o *Observed) databasesLeft(target osd.Target) (uuids []string) {
	for _, secret := range o.Secrets {
		if old := osd.TargetOf(secret); old.UUID != "" && takesThePlace(target, old) {
			uuids = append(uuids, old.UUID)
		}
	}
	return uuids
}

// failureOfDB says what is wrong with the DB device of an OSD; empty when nothing is.
func (o *Observed) failureOfDB(target osd.Target) string {
	if target.DB == "" {
		return ""
	}
	const lost = ". Without its database an OSD cannot start, and is lost when that is"
	device, there := osd.Find(o.Inventory[target.Node], target.DB), o.nodeWithDB(target)
	switch {
	case there == target.Node:
		return ""
	case there != "":
		return fmt.Sprintf("its database is on a device of node %s, and its own device in node %s%s", there, target.Node, lost)
	case device == nil:
		return fmt.Sprintf("the node does not show its DB device %s any more%s", target.DB, lost)
	case device.Usable:
		return fmt.Sprintf("its DB device %s is blank%s", target.DB, lost)
	}
	return fmt.Sprintf("its DB device %s does not show its database (%s: %s)%s", target.DB, device.Reason, device.Message, lost)
}
