package osd

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

// Made is an OSD that there is: where it is said to be, whether it has served data and does not
// run now, and whether it may run now: Ceph does not say that it is down.
type Made struct {
	Target
	Stopped, MayRun bool
}

// place is a device of a node, by its kernel name.
type place struct{ node, device string }

// places are the devices of a cluster's OSDs, by the OSDs' UUIDs: where each was made, and
// where nodes that answer show it. seen is all that those nodes show; nil of one whose agent
// has not reported. silent are the nodes that do not answer.
type places struct {
	fsid   string
	made   map[string]Made
	shown  map[string][]place
	seen   map[string]*v1alpha1.NodeStorage
	silent map[string]bool
}

// see adds what a node shows. What one showed that does not answer now may be elsewhere since.
func (p places) see(node *corev1.Node, seen *v1alpha1.NodeStorage) {
	if !kube.NodeAnswers(node) {
		p.silent[node.Name] = true
		return
	}
	p.seen[node.Name] = seen
	if seen == nil {
		return
	}
	for _, device := range seen.Status.Devices {
		if ours(device, p.fsid) {
			p.shown[device.OSD.UUID] = append(p.shown[device.OSD.UUID], place{node.Name, device.Name})
		}
	}
}

// uuid of the OSD on a device: that of its label, or one that follows from the cluster and the
// name of the device. A name may come to another device, when it is that of a slot: the OSD
// that was made under it is elsewhere now, or the spec says that it is replaced by the device
// of the same name. The next UUID in a row follows then.
func (p places) uuid(node string, want v1alpha1.StorageDevice, device v1alpha1.Device) string {
	if ours(device, p.fsid) {
		return device.OSD.UUID
	}
	name := or(device.ID, want.Name)
	uuid := UUID(p.fsid, node, name)
	for nth := 2; ; nth++ {
		next := UUID(p.fsid, node, fmt.Sprintf("%s#%d", name, nth))
		elsewhere := slices.ContainsFunc(p.shown[uuid], func(at place) bool { return at != place{node, device.Name} })
		exchanged := want.Replaces == p.made[uuid].Device && want.Replaces != "" && p.made[uuid].Stopped
		if _, further := p.made[next]; !further && !elsewhere && !exchanged {
			return uuid
		}
		uuid = next
	}
}

// withoutCopies drops the targets that bear the OSD of another device: a disk that was copied
// holds what the OSD was then, and to run it from there would undo what it has written since.
// The one on which the OSD was made last is its device, while a node shows it, and also while
// that node cannot tell what is on it.
func (p places) withoutCopies(targets []Target, inventory map[string]*v1alpha1.NodeStorage) (kept []Target, problems []Problem) {
	named := map[string]int{}
	for _, t := range targets {
		named[t.UUID]++
	}
	at := func(t Target) place {
		if device := Find(inventory[t.Node], t.Device); device != nil {
			return place{t.Node, device.Name}
		}
		return place{t.Node, ""}
	}
	for _, t := range targets {
		made := p.made[t.UUID].Target
		if at(t) == at(made) {
			kept = append(kept, t)
			continue
		}
		if named[t.UUID] < 2 && len(p.shown[t.UUID]) < 2 {
			if problem := p.doubt(t, p.made[t.UUID]); problem != nil {
				problems = append(problems, *problem)
			} else {
				kept = append(kept, t)
			}
			continue
		}
		if number := sameDisk(Find(inventory[t.Node], t.Device), Find(inventory[made.Node], made.Device)); number != "" {
			problems = append(problems, Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(
				"device %q on node %s is refused: it is one disk (%s) with %s, and its OSD (%s) belongs there. Name it on that node alone, in spec.storage.nodes, and let no filter match it on another",
				t.Device, t.Node, number, made.Where(), t.UUID)})
			continue
		}
		problems = append(problems, Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(
			"device %q on node %s is refused: it bears an OSD (%s) that another device bears too%s. One of them is a copy, and run from it the OSD would lose what it has written since. Take the copy out of spec.storage, and out of its node, or wipe it",
			t.Device, t.Node, t.UUID, belongsOn(made))})
	}
	return kept, problems
}

func belongsOn(made Target) string {
	if made.Device == "" {
		return ""
	}
	return ", and it belongs on " + made.Where()
}

// doubt says why an OSD is not to run from a device though no other shows it now: it may run
// elsewhere, or this may be a copy.
func (p places) doubt(t Target, made Made) *Problem {
	refused := func(why string) *Problem {
		return &Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf("device %q on node %s is refused: it bears an OSD (%s) that belongs on %s, and %s", t.Device, t.Node, t.UUID, made.Where(), why)}
	}
	switch unread := p.unread(made.Target); {
	case unread != "":
		return refused(unread + ". So this one may be a copy, and run from it the OSD would lose what it has written since. If the OSD is to run from it all the same, take the other out of its node first; else take this one out of spec.storage, and out of its node, or wipe it")
	case p.silent[made.Node] && made.MayRun && made.Node != t.Node:
		return refused(fmt.Sprintf("node %s does not answer, while Ceph does not say that the OSD is down: it may run there still. Bring the node back, or make sure that it is off", made.Node))
	}
	return nil
}

// unread says why the node on which an OSD was made cannot tell whether it has the OSD's device
// still; empty when it can. A disk that fails may have lost its names, too.
func (p places) unread(made Target) string {
	seen, answers := p.seen[made.Node]
	if !answers {
		return ""
	}
	if seen == nil {
		return fmt.Sprintf("the agent of node %s has not reported what devices there are. 'kubectl -n cairn-system get pods -l app.kubernetes.io/component=agent -o wide' shows whether it runs", made.Node)
	}
	if device := Find(seen, made.Device); device != nil {
		if !isUnread(*device) {
			return ""
		}
		return fmt.Sprintf("that device cannot be read now (%s: %s)", device.Reason, device.Message)
	}
	for _, device := range seen.Status.Devices {
		if isUnread(device) && !hasName(device) {
			return fmt.Sprintf("device %s of node %s, which has no name, cannot be read now (%s: %s): it may be that one", device.Name, made.Node, device.Reason, device.Message)
		}
	}
	return ""
}

// isUnread reports whether nothing is known of what is on a device: it could not be read, or
// its label is damaged.
func isUnread(device v1alpha1.Device) bool {
	return device.Reason == v1alpha1.DeviceCannotBeProbed || device.Reason == v1alpha1.DeviceHasOSD && device.OSD == nil && device.DBOf == ""
}

// hasName reports whether a device has a name of its own, and not of its place alone.
func hasName(device v1alpha1.Device) bool {
	return device.ID != "" && !strings.HasPrefix(device.ID, "/")
}
