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
