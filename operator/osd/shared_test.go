package osd

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

const lun = "wwn-0x6001405aabbccdd0"

// A disk that two nodes reach is made an OSD by one of them at most.
func TestADiskThatSeveralNodesReachIsUsedByOne(t *testing.T) {
	type inventory = map[string]*v1alpha1.NodeStorage
	both := inventory{"n1": storageNode("n1", disk(lun, "10Gi")), "n2": storageNode("n2", disk(lun, "10Gi"))}
	on := func(nodes ...string) (storage v1alpha1.StorageSpec) {
		for _, node := range nodes {
			storage.Nodes = append(storage.Nodes, v1alpha1.StorageNode{Name: node, Devices: named(lun)})
		}
		return storage
	}
	matched := v1alpha1.StorageSpec{NodeSelector: &metav1.LabelSelector{}, Filter: &v1alpha1.DeviceFilter{}}
	filtered := v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Filter: &v1alpha1.DeviceFilter{}}}}
	half := on("n1")
	half.NodeSelector, half.Filter = matched.NodeSelector, matched.Filter
	first, second := target("n1", lun), target("n2", lun)
	made := func(targets ...Target) map[string]Made {
		all := map[string]Made{}
		for _, t := range targets {
			all[t.UUID] = Made{Target: t}
		}
		return all
	}
	refused := func(node, other, why string) Problem {
		return Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf("device %q on node %s is refused: it is one disk (naa.6001405aabbccdd0) with device %[1]q on node %[3]s, and %[4]s", lun, node, other, why)}
	}
	const once = ". Name it on one node alone, in spec.storage.nodes, and let no filter match it on another"
	const each = "each node would make an OSD of it" + once
	used := refusedDisk(lun, v1alpha1.DeviceInUse, "another program has opened the device for itself")
	failed := refusedDisk(lun, v1alpha1.DeviceCannotBeProbed, "input/output error")
	withDB := func(device string) (d []v1alpha1.StorageDevice) {
		return []v1alpha1.StorageDevice{{Name: device, DBDevice: lun}}
	}
	shown := inventory{"n1": storageNode("n1", labelled(lun, first.UUID, fsid)), "n2": storageNode("n2", labelled(lun, first.UUID, fsid))}
	neither := []Problem{refused("n1", "n2", each), refused("n2", "n1", each)}
	for name, test := range map[string]struct {
		storage  v1alpha1.StorageSpec
		seen     inventory
		made     map[string]Made
		want     []Target
		problems []Problem
		silent   bool // node n1
	}{
		"matched on both":                                  {storage: matched, seen: both, problems: neither},
		"named on both":                                    {storage: on("n1", "n2"), seen: both, problems: neither},
		"named on one, and matched on the other":           {storage: half, seen: both, problems: neither},
		"matched on one alone, and shown by the other":     {storage: filtered, seen: both, problems: []Problem{refused("n1", "n2", "a filter does not say which node is to have it"+once)}},
		"named on one alone":                               {storage: on("n2"), seen: both, want: []Target{second}},
		"named on one alone, and the other cannot read it": {storage: on("n2"), seen: inventory{"n1": storageNode("n1", failed), "n2": both["n2"]}, want: []Target{second}},
		"named on one alone, and used by the other": {
			storage: on("n2"), seen: inventory{"n1": storageNode("n1", used), "n2": both["n2"]},
			problems: []Problem{refused("n2", "n1", "node n1 uses it: another program has opened the device for itself. End that use first, or take the device out of spec.storage")}},
		"begun on one, where it stays": {
			storage: matched, seen: both, made: made(first), want: []Target{first}, problems: []Problem{refused("n2", "n1", "an OSD was made of it on node n1"+once)}},
		"begun on both before this was looked at": {
			storage: matched, seen: both, made: made(first, second),
			problems: []Problem{refused("n1", "n2", "an OSD was made of it on node n2"+once), refused("n2", "n1", "an OSD was made of it on node n1"+once)}},
		"an OSD on one, and blank on the other a moment ago": {
			storage: matched, seen: inventory{"n1": storageNode("n1", labelled(lun, first.UUID, fsid)), "n2": both["n2"]},
			want: []Target{first}, problems: []Problem{refused("n2", "n1", each)}},
		"an OSD, shown by both": {
			storage: matched, seen: shown,
			made: made(first), want: []Target{first},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(`device "%s" on node n2 is refused: it is one disk (naa.6001405aabbccdd0) with %[1]s on node n1, and its OSD (%s) belongs there. Name it on that node alone, in spec.storage.nodes, and let no filter match it on another`, lun, first.UUID)}}},
		"an OSD, and its node is silent: it stays": {
			storage: matched, seen: shown, made: made(first), silent: true, want: []Target{first},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(`device "%s" on node n2 is refused: it is one disk (naa.6001405aabbccdd0) with %[1]s on node n1, and its OSD (%s) belongs there. Name it on that node alone, in spec.storage.nodes, and let no filter match it on another`, lun, first.UUID)}}},
		"a DB device of OSDs on both": {
			storage: v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Devices: withDB("disk1")}, {Name: "n2", Devices: withDB("disk2")}}},
			seen:    inventory{"n1": storageNode("n1", disk("disk1", "10Gi"), disk(lun, "10Gi")), "n2": storageNode("n2", disk("disk2", "10Gi"), disk(lun, "10Gi"))},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(`DB device "%s" of device "disk1" on node n1 is refused: it is one disk (naa.6001405aabbccdd0) with device "%[1]s" on node n2, and %[2]s`, lun, each)},
				{v1alpha1.ReasonDeviceRefused, fmt.Sprintf(`DB device "%s" of device "disk2" on node n2 is refused: it is one disk (naa.6001405aabbccdd0) with device "%[1]s" on node n1, and %[2]s`, lun, each)}}},
		"names that are nobody's alone are not compared": {
			storage: matched, seen: inventory{"n1": storageNode("n1", disk("virtio-1", "10Gi")), "n2": storageNode("n2", disk("virtio-1", "10Gi"))},
			want: []Target{target("n1", "virtio-1"), target("n2", "virtio-1")}},
	} {
		t.Run(name, func(t *testing.T) {
			answers := corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}
			nodes := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}, Status: answers}, {ObjectMeta: metav1.ObjectMeta{Name: "n2"}, Status: answers}}
			if test.silent {
				nodes[0].Status.Conditions = nil
			}
			targets, problems := Targets(&v1alpha1.StorageCluster{Spec: v1alpha1.StorageClusterSpec{Storage: test.storage}}, fsid, nodes, test.seen, test.made)
			require.Equal(t, test.want, targets)
			require.Equal(t, test.problems, problems)
		})
	}
}

// A disk is told by numbers that were issued to it, under whatever name a node shows them.
func TestWorldwideNumbers(t *testing.T) {
	for name, want := range map[string][]string{
		"wwn-0x5000c500a1b2c3d4":                             {"naa.5000c500a1b2c3d4"},
		"wwn-0x5000C500A1B2C3D4":                             {"naa.5000c500a1b2c3d4"},
		"scsi-35000c500a1b2c3d4":                             {"naa.5000c500a1b2c3d4"},
		"dm-uuid-mpath-36001405aabbccddeeff0011223344556":    {"naa.6001405aabbccddeeff0011223344556"},
		"scsi-36001405aabbccddeeff0011223344556":             {"naa.6001405aabbccddeeff0011223344556"},
		"nvme-eui.0025385b71b00001":                          {"eui.0025385b71b00001"},
		"nvme-nguid.0025385b71b000010025385b71b00001":        {"eui.0025385b71b000010025385b71b00001"},
		"nvme-uuid.6a1d3c52-71b0-4a5c-9a4e-2d0f5e6b7c8d":     {"uuid.6a1d3c52-71b0-4a5c-9a4e-2d0f5e6b7c8d"},
		"wwn-0x5000c500a1b2c3d4-part1":                       nil,
		"wwn-0x0000000000000000":                             nil,
		"wwn-0x5000000000000001":                             nil, // no maker
		"scsi-360000000000000000e00000000010001":             nil, // tgt's
		"scsi-33333333000001388":                             nil, // given at will
		"nvme-eui.0000000000000000":                          nil,
		"nvme-nvme.1b36-1234-51454d55204e564d65204374-00001": nil,
		"scsi-0QEMU_QEMU_HARDDISK_1":                         nil,
		"scsi-SATA_Disk_S-1":                                 nil,
		"ata-Disk_S-1":                                       nil,
		"virtio-1":                                           nil,
		"/dev/disk/by-path/pci-0000:00:05.0":                 nil,
		"":                                                   nil,
	} {
		require.Equal(t, want, worldwide(&v1alpha1.Device{ID: name}), name)
		require.Equal(t, want, worldwide(&v1alpha1.Device{ID: "virtio-x", Links: []string{"/dev/disk/by-path/" + name, "/dev/disk/by-id/" + name}}), name)
	}
}
