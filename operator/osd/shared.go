package osd

import (
	"fmt"
	"path"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// issued are the beginnings of names below /dev/disk/by-id whose numbers no other disk has, and
// of what kind the number is. One disk may have its number under several of them.
var issued = []struct{ begins, kind string }{
	{"wwn-0x", naa}, {"scsi-3", naa}, {"dm-uuid-mpath-3", naa},
	{"nvme-eui.", eui}, {"nvme-nguid.", eui}, {"scsi-2", eui}, {"dm-uuid-mpath-2", eui}, {"dm-uuid-mpath-eui.", eui},
	{"nvme-uuid.", "uuid"}, {"dm-uuid-mpath-uuid.", "uuid"},
}

const (
	naa = "naa" // T10's Network Address Authority
	eui = "eui" // IEEE's EUI-64, and NVMe's NGUID, which is longer
)

// worldwide are the numbers of a device that no other disk in the world has: from where two
// nodes show the same, it is one disk. Names of model and serial number do not count, which
// virtual disks have in common, nor do numbers that were not issued to anybody.
func worldwide(device *v1alpha1.Device) (numbers []string) {
	for _, link := range append([]string{device.ID}, device.Links...) {
		name := path.Base(link)
		if link != device.ID && !strings.HasPrefix(link, "/dev/disk/by-id/") {
			continue
		}
		for _, known := range issued {
			number, is := strings.CutPrefix(name, known.begins)
			if number = strings.ToLower(number); is && isIssued(known.kind, number) && !slices.Contains(numbers, known.kind+"."+number) {
				numbers = append(numbers, known.kind+"."+number)
			}
		}
	}
	return numbers
}

// isIssued reports whether a number has the length of its kind, and an owner: NAA 1, 2, 5 and 6
// hold the number of a maker, of which zero is none; NAA 3 is given at will.
func isIssued(kind, number string) bool {
	if kind == naa {
		return (len(number) == 16 || len(number) == 32) && isHex(number) && strings.ContainsAny(number[:1], "1256") && !strings.HasPrefix(number[1:], "000000")
	}
	digits := strings.ReplaceAll(number, "-", "")
	return (kind == eui && len(digits) == 16 || len(digits) == 32) && isHex(digits) && strings.Trim(digits, "0") != ""
}

func isHex(text string) bool { return strings.Trim(text, "0123456789abcdef") == "" }

// sighting is a disk as a node shows it, or has shown it last.
type sighting struct {
	node   string
	device *v1alpha1.Device
}

// sharing is the disks that several nodes reach, by their numbers, and what is to become of
// them.
type sharing struct {
	seen map[string][]sighting
	// taken are the devices that the spec names, or matches; ofOSD those that Secrets name.
	taken, ofOSD map[*v1alpha1.Device]bool
	inventory    map[string]*v1alpha1.NodeStorage
}

func (p places) shared(targets []Target, nodes []corev1.Node, inventory map[string]*v1alpha1.NodeStorage) sharing {
	s := sharing{seen: map[string][]sighting{}, taken: map[*v1alpha1.Device]bool{}, ofOSD: map[*v1alpha1.Device]bool{}, inventory: inventory}
	for i := range nodes {
		seen := inventory[nodes[i].Name]
		if seen == nil {
			continue
		}
		for j := range seen.Status.Devices {
			device := &seen.Status.Devices[j]
			for _, number := range worldwide(device) {
				s.seen[number] = append(s.seen[number], sighting{nodes[i].Name, device})
			}
		}
	}
	for _, t := range targets {
		s.mark(s.taken, t)
	}
	for _, made := range p.made {
		s.mark(s.ofOSD, made.Target)
	}
	return s
}

// mark the devices of a target.
func (s sharing) mark(devices map[*v1alpha1.Device]bool, t Target) {
	for _, name := range []string{t.Device, t.DB} {
		if device := Find(s.inventory[t.Node], name); name != "" && device != nil {
			devices[device] = true
		}
	}
}

// withoutShared drops new targets on disks that several nodes reach, unless an OSD was made of
// one there, or the spec names it on one node alone: each of two nodes would make an OSD of it.
func (p places) withoutShared(targets []Target, storage v1alpha1.StorageSpec, nodes []corev1.Node, inventory map[string]*v1alpha1.NodeStorage) (kept []Target, problems []Problem) {
	if !slices.ContainsFunc(targets, func(t Target) bool { return mayBeShared(inventory[t.Node], t) }) {
		return targets, nil
	}
	s := p.shared(targets, nodes, inventory)
	for _, t := range targets {
		problem := s.check(t, t.Device, fmt.Sprintf("device %q", t.Device), isNamed(storage, t.Node), p.made[t.UUID])
		if problem == nil && t.DB != "" {
			problem = s.check(t, t.DB, fmt.Sprintf("DB device %q of device %q", t.DB, t.Device), true, p.made[t.UUID])
		}
		if problem != nil {
			problems = append(problems, *problem)
			continue
		}
		kept = append(kept, t)
	}
	return kept, problems
}

// mayBeShared reports whether a target is new, and on a disk that another node may show.
func mayBeShared(seen *v1alpha1.NodeStorage, t Target) bool {
	return slices.ContainsFunc([]string{t.Device, t.DB}, func(name string) bool {
		device := Find(seen, name)
		return device != nil && device.Usable && len(worldwide(device)) > 0
	})
}

// isNamed reports whether the devices of a node are named one by one.
func isNamed(storage v1alpha1.StorageSpec, node string) bool {
	return slices.ContainsFunc(storage.Nodes, func(n v1alpha1.StorageNode) bool { return n.Name == node && len(n.Devices) > 0 })
}

// check says what keeps a blank device from being used because of what other nodes show.
func (s sharing) check(t Target, name, called string, isNamed bool, made Made) *Problem {
	device := Find(s.inventory[t.Node], name)
	if device == nil || !device.Usable {
		return nil
	}
	others, number := s.others(t.Node, device)
	if len(others) == 0 {
		return nil
	}
	refused := func(why, do string) *Problem {
		return &Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf("%s on node %s is refused: it is one disk (%s) with %s%s. %s", called, t.Node, number, list(others), why, do)}
	}
	const once = "Name it on one node alone, in spec.storage.nodes, and let no filter match it on another"
	belongs := made.Node == t.Node && Find(s.inventory[made.Node], made.Device) == Find(s.inventory[t.Node], t.Device)
	for _, other := range others {
		switch {
		case s.ofOSD[other.device]:
			return refused(fmt.Sprintf(", and an OSD was made of it on node %s", other.node), once)
		case belongs:
		case s.taken[other.device]:
			return refused(", and each node would make an OSD of it", once)
		case !isNamed:
			return refused(", and a filter does not say which node is to have it", once)
		case other.device.Reason == v1alpha1.DeviceInUse:
			return refused(fmt.Sprintf(", and node %s uses it: %s", other.node, other.device.Message), "End that use first, or take the device out of spec.storage")
		}
	}
	return nil
}

// others are the devices of other nodes that are the same disk, and the number that they share.
func (s sharing) others(node string, device *v1alpha1.Device) (others []sighting, shared string) {
	for _, number := range worldwide(device) {
		for _, other := range s.seen[number] {
			if other.node != node && !slices.Contains(others, other) {
				others, shared = append(others, other), number
			}
		}
	}
	return others, shared
}

func list(disks []sighting) string {
	out := make([]string, 0, len(disks))
	for _, disk := range disks {
		out = append(out, fmt.Sprintf("device %q on node %s", or(disk.device.ID, disk.device.Name), disk.node))
	}
	return strings.Join(out, ", ")
}

// sameDisk is the number that two devices share; empty when nothing says that they are one disk.
func sameDisk(one, other *v1alpha1.Device) string {
	if one == nil || other == nil || one == other {
		return ""
	}
	numbers := worldwide(other)
	for _, number := range worldwide(one) {
		if slices.Contains(numbers, number) {
			return number
		}
	}
	return ""
}
