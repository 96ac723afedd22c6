// Package osd makes the OSDs: which devices they live on, and the Kubernetes
// objects that run them.
package osd

import (
	"fmt"
	"path"
	"regexp"
	"slices"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	blockdevice "github.com/cairn-storage/cairn/daemon/disk"
)

// Component is the label of everything that belongs to an OSD.
const Component = "osd"

// Target is a device that is to be an OSD.
type Target struct {
	Node string
	// Device is the stable name: a name below /dev/disk/by-id or a path below /dev/disk.
	Device string
	// DB is the stable name of the device for its database; empty for none.
	DB    string
	Class string
	// Replaces is the device whose OSD this one takes the place of.
	Replaces string
	// UUID of the OSD: that of the device's label, or one that follows from
	// cluster, node and device, so that every attempt to make it is the same.
	UUID string
	// Claim is the PersistentVolumeClaim that it is on, in place of a device of a node;
	// Node is then the one that the claim is bound to, if it is bound to one.
	Claim string
	// Encrypted is true of an OSD whose device is encrypted.
	Encrypted bool
	// Location of a claim's OSD in the CRUSH map, once that is known; Size of the claim.
	Location, Size string
	// Weight in the CRUSH map, in TiB, that the spec gives it; zero is that of its size.
	Weight float64
	// InitialWeight is the weight that it gives itself at its first start; empty is that of its size.
	InitialWeight string
	// Kept is true for one that runs while the inventory does not show its device as a target:
	// what the spec says of it is not known.
	Kept bool
}

// Name of the target in plans and messages.
func (t Target) Name() string {
	if t.Claim != "" {
		return "osd-" + t.Claim
	}
	return fmt.Sprintf("osd-%s-%s", t.Node, path.Base(t.Device))
}

// Where the target is, in messages.
func (t Target) Where() string {
	if t.Claim != "" {
		return "claim " + t.Claim
	}
	return t.Device + " on node " + t.Node
}

// Path of the device on its node.
func (t Target) Path() string {
	if t.Claim != "" {
		return blockdevice.ClaimDevice
	}
	if strings.HasPrefix(t.Device, "/") {
		return t.Device
	}
	return "/dev/disk/by-id/" + t.Device
}

// Problem is a part of the spec that cannot be carried out as things are.
type Problem struct{ Reason, Message string }

// selection is one node and what the spec says of it.
type selection struct {
	node    string
	devices []v1alpha1.StorageDevice
	filter  *v1alpha1.DeviceFilter
	class   v1alpha1.DeviceClass
	known   places
}

// Targets returns the devices that the spec makes OSDs, and what stands in the
// way of the others. A device that holds an OSD of this cluster already is a
// target whatever else is said of it, unless it is a copy of another that does. A
// blank one that several nodes reach is none, unless one of them alone is to have it.
func Targets(cluster *v1alpha1.StorageCluster, fsid string, nodes []corev1.Node, inventory map[string]*v1alpha1.NodeStorage, made map[string]Made) ([]Target, []Problem) {
	selections, problems := selected(cluster.Spec.Storage, nodes)
	known := places{fsid: fsid, made: made, shown: map[string][]place{}, seen: map[string]*v1alpha1.NodeStorage{}, silent: map[string]bool{}}
	for _, node := range nodes {
		known.see(&node, inventory[node.Name])
	}
	var targets []Target
	for _, s := range selections {
		s.known = known
		found, bad := s.resolve(fsid, inventory[s.node])
		targets = append(targets, found...)
		problems = append(problems, bad...)
	}
	targets, shared := known.withoutShared(targets, cluster.Spec.Storage, nodes, inventory)
	targets, copies := known.withoutCopies(targets, inventory)
	return targets, slices.Concat(problems, shared, copies)
}

// selected lists the nodes of the spec: those named, then those that the selector finds.
func selected(storage v1alpha1.StorageSpec, nodes []corev1.Node) (out []selection, problems []Problem) {
	known := map[string]bool{}
	for _, node := range nodes {
		known[node.Name] = true
	}
	named := map[string]bool{}
	for _, n := range storage.Nodes {
		named[n.Name] = true
		if !known[n.Name] {
			problems = append(problems, Problem{v1alpha1.ReasonNodeNotFound, fmt.Sprintf(
				"spec.storage.nodes names %q, but the Kubernetes cluster has no such node. 'kubectl get nodes' lists them; correct the name, or add the node", n.Name)})
			continue
		}
		out = append(out, selection{node: n.Name, devices: n.Devices, filter: or(n.Filter, storage.Filter), class: or(n.DeviceClass, storage.DeviceClass)})
	}
	if storage.NodeSelector == nil {
		return out, problems
	}
	selector, err := metav1.LabelSelectorAsSelector(storage.NodeSelector)
	if err != nil {
		return out, append(problems, Problem{v1alpha1.ReasonNodeNotFound, fmt.Sprintf("spec.storage.nodeSelector: %v", err)})
	}
	for _, node := range nodes {
		if !named[node.Name] && selector.Matches(labels.Set(node.Labels)) {
			out = append(out, selection{node: node.Name, filter: storage.Filter, class: storage.DeviceClass})
		}
	}
	return out, problems
}

func or[T comparable](first, second T) T {
	var none T
	if first != none {
		return first
	}
	return second
}

func (s selection) resolve(fsid string, seen *v1alpha1.NodeStorage) ([]Target, []Problem) {
	if seen == nil {
		return nil, []Problem{{v1alpha1.ReasonNodeNotInventory, fmt.Sprintf(
			"no NodeStorage %q yet: the agent has not reported what devices node %s has. 'kubectl -n cairn-system get pods -l app.kubernetes.io/component=agent -o wide' shows whether it runs there", s.node, s.node)}}
	}
	if len(s.devices) > 0 {
		return s.byName(fsid, seen.Status.Devices)
	}
	return s.byFilter(fsid, seen.Status.Devices)
}

func (s selection) byName(fsid string, devices []v1alpha1.Device) (targets []Target, problems []Problem) {
	for _, want := range s.devices {
		if want.Replaces != want.Name && slices.ContainsFunc(s.devices, func(d v1alpha1.StorageDevice) bool { return d.Name == want.Replaces }) {
			problems = append(problems, Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(
				"device %q on node %s is not used: it is to replace %q, which is named itself. Take %[3]q out of spec.storage.nodes[%[2]s].devices, or leave out 'replaces'",
				want.Name, s.node, want.Replaces)})
			continue
		}
		at := slices.IndexFunc(devices, func(d v1alpha1.Device) bool { return bears(d, want.Name) })
		if at < 0 {
			problems = append(problems, Problem{v1alpha1.ReasonDeviceNotFound, fmt.Sprintf(
				"device %q on node %s does not exist there. The node has: %s. Correct spec.storage.nodes[%s].devices, or plug the device in; it is used as soon as it appears",
				want.Name, s.node, ids(devices), s.node)})
			continue
		}
		device := devices[at]
		uuid := s.known.uuid(s.node, want, device)
		if !device.Usable && !ours(device, fsid) && !begun(device, uuid) {
			problems = append(problems, Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(
				"device %q on node %s is refused (%s): %s", want.Name, s.node, device.Reason, device.Message)})
			continue
		}
		if twin := slices.IndexFunc(targets, func(t Target) bool { return bears(device, t.Device) }); twin >= 0 {
			problems = append(problems, Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(
				"devices %q and %q on node %s are one device. Leave one of them out of spec.storage.nodes[%s].devices",
				targets[twin].Device, want.Name, s.node, s.node)})
			continue
		}
		target := Target{Node: s.node, Device: want.Name, DB: want.DBDevice, Class: string(or(want.DeviceClass, s.class)), Replaces: want.Replaces, UUID: uuid, Weight: weightOf(want.Weight)}
		targets = append(targets, target)
	}
	return targets, problems
}

// byFilter takes the devices that a filter matches. Those that are refused are
// passed over in silence: a filter is a wish, not a list.
func (s selection) byFilter(fsid string, devices []v1alpha1.Device) (targets []Target, problems []Problem) {
	pattern, problem := checked(s.filter, s.node)
	if problem != nil {
		return nil, []Problem{*problem}
	}
	for _, device := range devices {
		if device.ID != "" && matches(s.filter, pattern, device) && (device.Usable || ours(device, fsid)) {
			uuid := s.known.uuid(s.node, v1alpha1.StorageDevice{Name: device.ID}, device)
			targets = append(targets, Target{Node: s.node, Device: device.ID, Class: string(s.class), UUID: uuid})
		}
	}
	return targets, nil
}

// checked compiles a filter's pattern and refuses what could match nothing.
func checked(filter *v1alpha1.DeviceFilter, node string) (*regexp.Regexp, *Problem) {
	pattern, err := regexp.Compile("^(?:" + filter.IDPattern + ")$")
	if err != nil {
		return nil, &Problem{v1alpha1.ReasonBadFilter, fmt.Sprintf("filter.idPattern %q for node %s is not a regular expression: %v", filter.IDPattern, node, err)}
	}
	if filter.MinSize != nil && filter.MaxSize != nil && filter.MinSize.Cmp(*filter.MaxSize) > 0 {
		return nil, &Problem{v1alpha1.ReasonBadFilter, fmt.Sprintf("filter.minSize %s for node %s is larger than filter.maxSize %s: no device can match", filter.MinSize, node, filter.MaxSize)}
	}
	return pattern, nil
}

func matches(filter *v1alpha1.DeviceFilter, pattern *regexp.Regexp, device v1alpha1.Device) bool {
	return (filter.IDPattern == "" || pattern.MatchString(device.ID)) &&
		(filter.MinSize == nil || device.Size.Cmp(*filter.MinSize) >= 0) &&
		(filter.MaxSize == nil || device.Size.Cmp(*filter.MaxSize) <= 0) &&
		(filter.Rotational == nil || device.Rotational == *filter.Rotational)
}

// UUID of the OSD that a cluster makes of a device.
func UUID(fsid, node, device string) string {
	space, err := uuid.Parse(fsid)
	if err != nil {
		space = uuid.Nil
	}
	return uuid.NewSHA1(space, []byte(node+"/"+path.Base(device))).String()
}

// ours reports whether a device holds an OSD of this cluster.
func ours(device v1alpha1.Device, fsid string) bool {
	return fsid != "" && device.OSD != nil && device.OSD.FSID == fsid
}

// begun reports whether a device is being made into the OSD with a UUID: its
// label bears the UUID, and no cluster yet.
func begun(device v1alpha1.Device, uuid string) bool {
	return device.OSD != nil && device.OSD.UUID == uuid
}

// bears reports whether a device has a name.
func bears(device v1alpha1.Device, name string) bool {
	return device.ID == name || slices.ContainsFunc(device.Links, func(link string) bool {
		return link == name || path.Base(link) == name && strings.HasPrefix(link, "/dev/disk/by-id/")
	})
}

func ids(devices []v1alpha1.Device) string {
	var out []string
	for _, device := range devices {
		if device.ID != "" {
			out = append(out, device.ID)
		}
	}
	if len(out) == 0 {
		return "no device with a stable name"
	}
	return strings.Join(out, ", ")
}
