package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// With spec.storage.onRemoval: Wipe the disk of an OSD that has left is emptied by a Job on its
// node. While there is such a Job the OSD's Secret says that it leaves, and no OSD is made under
// its UUID: the Job goes first, then the Secret. The label on the disk is looked at once more there.

// emptyComponent is the label of the Jobs that empty the disks of OSDs which have left.
const emptyComponent = "wipe-osd"

func (o *Observed) wipingName(uuid string) string {
	return fmt.Sprintf("%s-wipe-osd-%s", o.Cluster.Name, o.freeingInstance(uuid))
}

// wipingJob empties the disk of one OSD, and fails where that cannot be read.
func (o *Observed) wipingJob(image string, target osd.Target, node string) *batchv1.Job {
	command := []string{"cairn-daemon", "wipe", "--fsid", o.Keys.FSID, "--osd", target.UUID}
	path := o.pathShown(node, func(d v1alpha1.Device) bool { return d.OSD != nil && d.OSD.UUID == target.UUID })
	if path == "" && node == target.Node {
		path = target.Path()
	}
	if path != "" {
		command = append(command, "--device", path)
	}
	return o.goesWith(target, wipeJob(o.Cluster, emptyComponent, o.wipingName(target.UUID), o.freeingInstance(target.UUID), image, node, command))
}

// toBeWiped reports whether the disk of an OSD that has left is to be emptied: one of which
// its Secret does not say that it leaves was purged by somebody else.
func (o *Observed) toBeWiped(t osd.Target) bool {
	return o.Cluster.Spec.Storage.OnRemoval == v1alpha1.RemovalWipe && t.Claim == "" && o.marked(t.UUID)
}

// wipeDisk is the next step until the disk of an OSD that Ceph does not know any more is empty,
// where that is asked for.
func (p *planner) wipeDisk(target osd.Target, deployment *appsv1.Deployment) (s Step, left bool) {
	wanted, node := p.o.toBeWiped(target), ""
	if wanted {
		node = p.o.nodeWith(target)
	}
	s = step(target.Name()+"-wipe", "empty the disk "+target.Where(), "its OSD has left, and spec.storage.onRemoval is Wipe", unclean(p.o.Ceph))
	s.Reason = v1alpha1.ReasonNotSafeToRemove
	switch {
	case node == "" && p.o.Jobs[p.o.wipingName(target.UUID)] == nil:
		s.Gate, s.Reason = p.o.holdsOther(target, wanted), v1alpha1.ReasonDeviceRefused
		return s, s.Gate != ""
	case deployment != nil:
		s.What, s.Gate, s.Risk, s.Delete = "stop the OSD of "+target.Where(), "", v1alpha1.RiskNone, []client.Object{deployment}
		return s, true
	}
	if where := p.o.allShowing(target.UUID); len(where) > 1 && wanted {
		s.Gate, s.Reason = fmt.Sprintf("one disk alone bears that OSD: %s do, and one may be a copy that is to be kept. Take the copy out of its node, or set spec.storage.onRemoval to Keep", strings.Join(where, " and ")), v1alpha1.ReasonDeviceRefused
	}
	s = p.byEmptying(s, p.o.wipingJob(p.d.helperImage, target, node), node, target.Device, "When it is gone for ever, set spec.storage.onRemoval to Keep: what is on the disk stays")
	s.Afresh = s.Create != nil
	return s, true
}

// nodeWith is a node that shows a device with an OSD's label: the OSD's own before others, and
// one that answers before all that do not; empty when none does.
func (o *Observed) nodeWith(t osd.Target) string {
	return o.nodeShowing(t, func(d v1alpha1.Device) bool { return d.OSD != nil && d.OSD.UUID == t.UUID })
}

// nodeWithDB is nodeWith for a device with the database of an OSD.
func (o *Observed) nodeWithDB(t osd.Target) string {
	return o.nodeShowing(t, func(d v1alpha1.Device) bool { return d.DBOf == t.UUID })
}

func (o *Observed) nodeShowing(t osd.Target, wanted func(v1alpha1.Device) bool) (found string) {
	for _, name := range append([]string{t.Node}, slices.Sorted(maps.Keys(o.Inventory))...) {
		if seen := o.Inventory[name]; seen == nil || !slices.ContainsFunc(seen.Status.Devices, wanted) {
			continue
		}
		if node := o.node(name); node != nil && kube.NodeAnswers(node) {
			return name
		}
		found = cmp.Or(found, name)
	}
	return found
}

// allShowing are the devices with an OSD's label on nodes that answer.
func (o *Observed) allShowing(uuid string) (devices []string) {
	for _, name := range slices.Sorted(maps.Keys(o.Inventory)) {
		if node := o.node(name); node == nil || !kube.NodeAnswers(node) {
			continue
		}
		for _, d := range o.Inventory[name].Status.Devices {
			if d.OSD != nil && d.OSD.UUID == uuid {
				devices = append(devices, fmt.Sprintf("%s of node %s", d.Name, name))
			}
		}
	}
	return devices
}

// holdsOther says that a disk which was to be emptied is neither its OSD's any more nor blank.
// An OSD of this cluster may have been put in its place.
func (o *Observed) holdsOther(target osd.Target, wanted bool) string {
	device := osd.Find(o.Inventory[target.Node], target.Device)
	if !wanted || device == nil || device.Usable || device.OSD != nil && device.OSD.FSID == o.Keys.FSID {
		return ""
	}
	return fmt.Sprintf("it is that OSD's, or blank. It is refused and left as it is: %s: %s. Empty it by hand when nobody needs that, or set spec.storage.onRemoval to Keep",
		device.Reason, device.Message)
}

// notWiped says of an OSD that is forgotten that its disk was not emptied, though it was to be.
func (o *Observed) notWiped(target osd.Target) string {
	if o.toBeWiped(target) && osd.Find(o.Inventory[target.Node], target.Device) == nil {
		return ", whose disk no node shows: what is on it stays"
	}
	return ""
}

// leftBehind reports whether an OSD is gone, and not forgotten yet: that comes before another
// is made under its UUID.
func (o *Observed) leftBehind(uuid string) bool { return o.osd(uuid) == nil && o.marked(uuid) }

// withoutLeft are the targets without devices of OSDs that have left this cluster: such an OSD
// does not come back, and what is on its disk is not taken for a blank one's.
func (d *Desired) withoutLeft(o *Observed, targets []osd.Target) []osd.Target {
	if o.Ceph == nil {
		return targets
	}
	return slices.DeleteFunc(targets, func(t osd.Target) bool {
		if o.osd(t.UUID) != nil || o.Secrets[osd.SecretName(o.Cluster, t.UUID)] != nil {
			return false
		}
		device := osd.Find(o.Inventory[t.Node], t.Device)
		if device == nil || device.OSD == nil || device.OSD.UUID != t.UUID || device.OSD.ID < 0 {
			return false
		}
		if o.names(t) {
			d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonDeviceRefused, Message: fmt.Sprintf(
				"device %q on node %s is refused: it holds osd.%d (%s), which has left this cluster: Ceph does not know it any more, and what is on the disk was kept. When nobody needs that wipe the disk, and a new OSD is made of it: 'blkdiscard -f %s' on the node, or as docs/disks.md says where that is not supported. Or take it out of spec.storage.nodes[%[2]s].devices. With spec.storage.onRemoval: Wipe a disk is emptied when its OSD leaves",
				t.Device, t.Node, device.OSD.ID, t.UUID, t.Path())})
		}
		return true
	})
}

// names reports whether the spec names a target's device, where a filter may match others.
func (o *Observed) names(t osd.Target) bool {
	return slices.ContainsFunc(o.Cluster.Spec.Storage.Nodes, func(n v1alpha1.StorageNode) bool {
		return n.Name == t.Node && slices.ContainsFunc(n.Devices, func(d v1alpha1.StorageDevice) bool { return d.Name == t.Device })
	})
}

// afresh creates what a step creates where a look at what the server and Ceph say now, past
// every cache, leads to the same step.
func (r *Reconciler) afresh(ctx context.Context, o *Observed, s Step) error {
	var cluster v1alpha1.StorageCluster
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(o.Cluster), &cluster); err != nil {
		return fmt.Errorf("read the StorageCluster: %w", err)
	}
	if cluster.UID != o.Cluster.UID {
		return nil // another one, which has its own look
	}
	seen, want, err := r.fromServer().Look(ctx, &cluster)
	if err != nil {
		return err
	}
	steps, err := Plan(seen, want)
	if err != nil {
		return err
	}
	for i := range steps {
		if steps[i].Afresh && steps[i].Gate == "" && steps[i].Name == s.Name {
			return ignoreExists(r.Client.Create(ctx, steps[i].Create[0], client.FieldOwner(kube.Manager)))
		}
	}
	return nil // the next look decides anew
}
