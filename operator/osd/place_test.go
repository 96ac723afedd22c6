package osd

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// A name is not a disk: it may be that of a slot, and a disk may be moved or copied.
func TestNoTwoDevicesAreOneOSD(t *testing.T) {
	type inventory = map[string]*v1alpha1.NodeStorage
	first := target("n1", "disk1")
	second := first
	second.UUID = UUID(fsid, "n1", "disk1#2")
	made := func(targets ...Target) map[string]Made {
		all := map[string]Made{}
		for _, t := range targets {
			all[t.UUID] = Made{Target: t}
		}
		return all
	}
	stopped := map[string]Made{first.UUID: {Target: first, Stopped: true}}
	moved := Target{Node: "n2", Device: "disk7", UUID: first.UUID}
	onBoth := v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Devices: named("disk1")}, {Name: "n2", Devices: named("disk7")}}}
	exchanged := on("n1", "disk1")
	exchanged.Nodes[0].Devices[0].Replaces = "disk1"
	exchange := func(t Target) Target { t.Replaces = "disk1"; return t }
	refused := func(device, node, belongs string) Problem {
		return Problem{v1alpha1.ReasonDeviceRefused, `device "` + device + `" on node ` + node + ` is refused: it bears an OSD (` + first.UUID + `) that another device bears too` + belongs +
			`. One of them is a copy, and run from it the OSD would lose what it has written since. Take the copy out of spec.storage, and out of its node, or wipe it`}
	}
	perhaps := func(device, node, unread string) Problem {
		return Problem{v1alpha1.ReasonDeviceRefused, `device "` + device + `" on node ` + node + ` is refused: it bears an OSD (` + first.UUID + `) that belongs on disk1 on node n1, and ` + unread +
			`. So this one may be a copy, and run from it the OSD would lose what it has written since. If the OSD is to run from it all the same, take the other out of its node first; else take this one out of spec.storage, and out of its node, or wipe it`}
	}
	unread := refusedDisk("disk1", v1alpha1.DeviceCannotBeProbed, "no answer within 10s")
	const cannot = "that device cannot be read now (CannotBeProbed: no answer within 10s)"
	damaged := refusedDisk("disk1", v1alpha1.DeviceHasOSD, "a damaged BlueStore label")
	nameless := refusedDisk("disk1", v1alpha1.DeviceCannotBeProbed, "input/output error")
	nameless.ID, nameless.Links = "/dev/disk/by-path/pci-1", []string{"/dev/disk/by-path/pci-1"}
	matched := v1alpha1.StorageSpec{NodeSelector: &metav1.LabelSelector{}, Filter: &v1alpha1.DeviceFilter{}}
	there := storageNode("n2", labelled("disk7", first.UUID, fsid))
	alone := func(devices ...v1alpha1.Device) inventory {
		return inventory{"n1": storageNode("n1", devices...), "n2": there}
	}
	copied := inventory{"n1": storageNode("n1", labelled("disk1", first.UUID, fsid)), "n2": storageNode("n2", labelled("disk7", first.UUID, fsid))}
	for name, test := range map[string]struct {
		storage  v1alpha1.StorageSpec
		seen     inventory
		made     map[string]Made
		dead     bool
		want     []Target
		problems []Problem
	}{
		"a blank disk under the name of one that went to another node": {
			storage: onBoth, made: made(first), want: []Target{second, moved},
			seen: inventory{"n1": storageNode("n1", disk("disk1", "10Gi")), "n2": storageNode("n2", labelled("disk7", first.UUID, fsid))}},
		"it has the next UUID for good": {
			storage: onBoth, made: made(moved, second), want: []Target{second},
			seen:     inventory{"n1": storageNode("n1", disk("disk1", "10Gi")), "n2": storageNode("n2")},
			problems: []Problem{{v1alpha1.ReasonDeviceNotFound, `device "disk7" on node n2 does not exist there. The node has: no device with a stable name. Correct spec.storage.nodes[n2].devices, or plug the device in; it is used as soon as it appears`}}},
		"and while its label names no cluster yet": {
			storage: on("n1", "disk1"), made: made(moved, second), want: []Target{second},
			seen: inventory{"n1": storageNode("n1", labelled("disk1", second.UUID, "")), "n2": storageNode("n2", labelled("disk7", first.UUID, fsid))}},
		"a disk that is blank keeps its OSD until it is said to be replaced": {
			storage: on("n1", "disk1"), made: stopped, want: []Target{first}, seen: inventory{"n1": storageNode("n1", disk("disk1", "10Gi"))}},
		"a disk exchanged under its name is not the one before": {
			storage: exchanged, made: stopped, want: []Target{exchange(second)}, seen: inventory{"n1": storageNode("n1", disk("disk1", "10Gi"))}},
		"nothing is exchanged while its OSD runs": {
			storage: exchanged, made: made(first), want: []Target{exchange(first)}, seen: inventory{"n1": storageNode("n1", disk("disk1", "10Gi"))}},
		"a copy is refused, named or not": {
			storage: onBoth, made: made(first), seen: copied, want: []Target{first}, problems: []Problem{refused("disk7", "n2", ", and it belongs on disk1 on node n1")}},
		"a copy is refused though the other is named no more": {
			storage: on("n2", "disk7"), made: made(first), seen: copied, problems: []Problem{refused("disk7", "n2", ", and it belongs on disk1 on node n1")}},
		"of two devices of which nothing is known none is taken": {
			storage: onBoth, seen: copied, problems: []Problem{refused("disk1", "n1", ""), refused("disk7", "n2", "")}},
		"a copy in the same node": {
			storage: on("n1", "disk2", "disk1"), made: made(first), want: []Target{first}, problems: []Problem{refused("disk2", "n1", ", and it belongs on disk1 on node n1")},
			seen: inventory{"n1": storageNode("n1", labelled("disk1", first.UUID, fsid), labelled("disk2", first.UUID, fsid))}},
		"a copy of one that cannot be read now": {
			storage: onBoth, made: made(first), seen: alone(unread),
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, `device "disk1" on node n1 is refused (CannotBeProbed): no answer within 10s`}, perhaps("disk7", "n2", cannot)}},
		"a copy that a filter matches": {storage: matched, made: made(first), seen: alone(unread), problems: []Problem{perhaps("disk7", "n2", cannot)}},
		"a copy though the other is named no more, and cannot be read": {
			storage: on("n2", "disk7"), made: made(first), seen: alone(unread), problems: []Problem{perhaps("disk7", "n2", cannot)}},
		"a copy in the same node of one that cannot be read now": {
			storage: on("n1", "disk2"), made: made(first), problems: []Problem{perhaps("disk2", "n1", cannot)},
			seen: inventory{"n1": storageNode("n1", unread, labelled("disk2", first.UUID, fsid))}},
		"a copy of one whose label is damaged": {
			storage: on("n2", "disk7"), made: made(first), seen: alone(damaged),
			problems: []Problem{perhaps("disk7", "n2", "that device cannot be read now (HasOSD: a damaged BlueStore label)")}},
		"a copy of one that has lost its names, and cannot be read": {
			storage: on("n2", "disk7"), made: made(first), seen: alone(nameless),
			problems: []Problem{perhaps("disk7", "n2", "device k-disk1 of node n1, which has no name, cannot be read now (CannotBeProbed: input/output error): it may be that one")}},
		"a copy where the node of the other has not reported": {
			storage: on("n2", "disk7"), made: made(first), seen: inventory{"n2": there},
			problems: []Problem{perhaps("disk7", "n2", "the agent of node n1 has not reported what devices there are. 'kubectl -n cairn-system get pods -l app.kubernetes.io/component=agent -o wide' shows whether it runs")}},
		"a disk that was moved from where there is nothing now":    {storage: on("n2", "disk7"), made: made(first), seen: alone(), want: []Target{moved}},
		"a disk that was moved from where there is another now":    {storage: on("n2", "disk7"), made: made(first), seen: alone(labelled("disk1", second.UUID, fsid)), want: []Target{moved}},
		"a disk that was moved from where a used one is now":       {storage: on("n2", "disk7"), made: made(first), seen: alone(refusedDisk("disk1", v1alpha1.DeviceInUse, "mounted")), want: []Target{moved}},
		"a disk that was moved from where another cannot be read":  {storage: on("n2", "disk7"), made: made(first), seen: alone(refusedDisk("disk3", v1alpha1.DeviceCannotBeProbed, "")), want: []Target{moved}},
		"a disk of which one nameless is no matter, by its place":  {storage: on("n2", "disk7"), made: made(first), seen: alone(disk("disk1", "10Gi"), nameless), want: []Target{moved}},
		"a disk that was moved from a node that does not answer":   {storage: on("n2", "disk7"), made: made(first), seen: alone(unread), dead: true, want: []Target{moved}},
		"a disk under another name where it was, while it is read": {storage: on("n1", "/dev/disk/by-path/path-disk1"), made: made(first), seen: inventory{"n1": storageNode("n1", labelled("disk1", first.UUID, fsid), refusedDisk("disk3", v1alpha1.DeviceCannotBeProbed, ""))}, want: []Target{{Node: "n1", Device: "/dev/disk/by-path/path-disk1", UUID: first.UUID}}},
		"an OSD that runs in a node that does not answer": {
			storage: on("n2", "disk7"), made: map[string]Made{first.UUID: {Target: first, MayRun: true}}, seen: copied, dead: true,
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, `device "disk7" on node n2 is refused: it bears an OSD (` + first.UUID + `) that belongs on disk1 on node n1, and node n1 does not answer, while Ceph does not say that the OSD is down: it may run there still. Bring the node back, or make sure that it is off`}}},
		"an OSD that Ceph does not say to be down, of a node that is no more": {
			storage: on("n2", "disk7"), made: map[string]Made{first.UUID: {Target: Target{Node: "n0", Device: "disk1", UUID: first.UUID}, MayRun: true}}, seen: alone(), want: []Target{moved}},
		"an OSD that ran when its disk was moved from a node that answers": {
			storage: on("n2", "disk7"), made: map[string]Made{first.UUID: {Target: first, MayRun: true}}, seen: alone(), want: []Target{moved}},
		"what a silent node showed before is no copy": {
			storage: on("n2", "disk7"), made: made(first), seen: copied, dead: true, want: []Target{moved}},
	} {
		t.Run(name, func(t *testing.T) {
			answers := []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
			nodes := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: corev1.NodeStatus{Conditions: answers}}, {ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: corev1.NodeStatus{Conditions: answers}}}
			if test.dead {
				nodes[0].Status.Conditions = nil
			}
			targets, problems := Targets(&v1alpha1.StorageCluster{Spec: v1alpha1.StorageClusterSpec{Storage: test.storage}}, fsid, nodes, test.seen, test.made)
			require.Equal(t, test.want, targets)
			require.Equal(t, test.problems, problems)
		})
	}
}
