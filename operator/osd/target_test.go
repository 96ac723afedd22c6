package osd

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

const fsid = "11111111-2222-3333-4444-555555555555"

func storageNode(name string, devices ...v1alpha1.Device) *v1alpha1.NodeStorage {
	return &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: v1alpha1.NodeStorageStatus{Devices: devices}}
}

func disk(name, size string) v1alpha1.Device {
	return v1alpha1.Device{Name: "k-" + name, ID: name, Size: resource.MustParse(size), Usable: true,
		Links: []string{"/dev/disk/by-id/" + name, "/dev/disk/by-path/path-" + name}}
}

func refusedDisk(name, reason, message string) v1alpha1.Device {
	d := disk(name, "10Gi")
	d.Usable, d.Reason, d.Message = false, reason, message
	return d
}

func labelled(name, uuid, cluster string) v1alpha1.Device {
	d := refusedDisk(name, v1alpha1.DeviceHasOSD, "holds an OSD")
	d.OSD = &v1alpha1.DeviceOSD{ID: 3, UUID: uuid, FSID: cluster}
	return d
}

func named(names ...string) (devices []v1alpha1.StorageDevice) {
	for _, name := range names {
		devices = append(devices, v1alpha1.StorageDevice{Name: name})
	}
	return devices
}

func on(node string, devices ...string) v1alpha1.StorageSpec {
	return v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: node, Devices: named(devices...)}}}
}

func target(node, device string) Target {
	return Target{Node: node, Device: device, UUID: UUID(fsid, node, device)}
}

func TestTargets(t *testing.T) {
	type inventory = map[string]*v1alpha1.NodeStorage
	one := inventory{"n1": storageNode("n1", disk("disk1", "10Gi"), disk("disk2", "20Gi"))}
	const mine, other = "aaaaaaaa-0000-0000-0000-000000000001", "99999999-0000-0000-0000-000000000000"
	filter := func(f v1alpha1.DeviceFilter) v1alpha1.StorageSpec {
		return v1alpha1.StorageSpec{NodeSelector: &metav1.LabelSelector{}, Filter: &f}
	}
	for name, test := range map[string]struct {
		storage  v1alpha1.StorageSpec
		seen     inventory
		want     []Target
		problems []Problem
	}{
		"a device by its name": {storage: on("n1", "disk2"), seen: one, want: []Target{target("n1", "disk2")}},
		"a device by its path makes the same OSD as by its name": {
			storage: on("n1", "/dev/disk/by-path/path-disk2"), seen: one,
			want: []Target{{Node: "n1", Device: "/dev/disk/by-path/path-disk2", UUID: UUID(fsid, "n1", "disk2")}}},
		"a device in place of another": {
			storage: v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Devices: []v1alpha1.StorageDevice{{Name: "disk2", Replaces: "disk7"}}}}}, seen: one,
			want: []Target{{Node: "n1", Device: "disk2", Replaces: "disk7", UUID: UUID(fsid, "n1", "disk2")}}},
		"a device in place of one that is named itself": {
			storage: v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Devices: []v1alpha1.StorageDevice{{Name: "disk1"}, {Name: "disk2", Replaces: "disk1"}}}}}, seen: one,
			want:     []Target{target("n1", "disk1")},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, `device "disk2" on node n1 is not used: it is to replace "disk1", which is named itself. Take "disk1" out of spec.storage.nodes[n1].devices, or leave out 'replaces'`}}},
		"one device under two names is one OSD": {
			storage: on("n1", "disk1", "/dev/disk/by-path/path-disk1"), seen: one, want: []Target{target("n1", "disk1")},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, `devices "disk1" and "/dev/disk/by-path/path-disk1" on node n1 are one device. Leave one of them out of spec.storage.nodes[n1].devices`}}},
		"a node that does not exist": {
			storage: on("n9", "disk1"), seen: one,
			problems: []Problem{{v1alpha1.ReasonNodeNotFound, `spec.storage.nodes names "n9", but the Kubernetes cluster has no such node. 'kubectl get nodes' lists them; correct the name, or add the node`}}},
		"a node whose agent has not reported": {
			storage: on("n2", "disk1"), seen: one,
			problems: []Problem{{v1alpha1.ReasonNodeNotInventory, `no NodeStorage "n2" yet: the agent has not reported what devices node n2 has. 'kubectl -n cairn-system get pods -l app.kubernetes.io/component=agent -o wide' shows whether it runs there`}}},
		"a device that does not exist: which, where, what there is and what to do": {
			storage: on("n1", "disk7", "disk1"), seen: one, want: []Target{target("n1", "disk1")},
			problems: []Problem{{v1alpha1.ReasonDeviceNotFound, `device "disk7" on node n1 does not exist there. The node has: disk1, disk2. Correct spec.storage.nodes[n1].devices, or plug the device in; it is used as soon as it appears`}}},
		"a device on a node that has none": {
			storage: on("n1", "disk7"), seen: inventory{"n1": storageNode("n1")},
			problems: []Problem{{v1alpha1.ReasonDeviceNotFound, `device "disk7" on node n1 does not exist there. The node has: no device with a stable name. Correct spec.storage.nodes[n1].devices, or plug the device in; it is used as soon as it appears`}}},
		"a device that holds a filesystem": {
			storage: on("n1", "disk1"), seen: inventory{"n1": storageNode("n1", refusedDisk("disk1", v1alpha1.DeviceHasFilesystem, "ext4 with label data"))},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, `device "disk1" on node n1 is refused (HasFilesystem): ext4 with label data`}}},
		"a device of another Ceph cluster": {
			storage: on("n1", "disk1"), seen: inventory{"n1": storageNode("n1", labelled("disk1", mine, other))},
			problems: []Problem{{v1alpha1.ReasonDeviceRefused, `device "disk1" on node n1 is refused (HasOSD): holds an OSD`}}},
		"a device with our own OSD keeps that OSD": {
			storage: on("n1", "disk1"), seen: inventory{"n1": storageNode("n1", labelled("disk1", mine, fsid))},
			want: []Target{{Node: "n1", Device: "disk1", UUID: mine}}},
		"a device that is just being made into its OSD": {
			storage: on("n1", "disk1"), seen: inventory{"n1": storageNode("n1", labelled("disk1", UUID(fsid, "n1", "disk1"), ""))},
			want: []Target{target("n1", "disk1")}},
		"a filter passes over what is refused, and says nothing": {
			storage: filter(v1alpha1.DeviceFilter{IDPattern: "disk."}),
			seen: inventory{"n1": storageNode("n1", disk("disk1", "1Gi"), refusedDisk("disk2", v1alpha1.DeviceHasPartitions, "gpt"), labelled("disk3", mine, fsid), labelled("disk4", mine, other)),
				"n2": storageNode("n2"), "n3": storageNode("n3")},
			want: []Target{target("n1", "disk1"), {Node: "n1", Device: "disk3", UUID: mine}}},
		"a filter's pattern matches the whole name": {
			storage: filter(v1alpha1.DeviceFilter{IDPattern: "disk"}), seen: inventory{"n1": one["n1"], "n2": storageNode("n2"), "n3": storageNode("n3")}},
		"a filter bounds sizes, both ends included": {
			storage: filter(v1alpha1.DeviceFilter{MinSize: ptr.To(resource.MustParse("10Gi")), MaxSize: ptr.To(resource.MustParse("20Gi"))}),
			seen:    inventory{"n1": storageNode("n1", disk("small", "9Gi"), disk("low", "10Gi"), disk("high", "20Gi"), disk("big", "21Gi")), "n2": storageNode("n2"), "n3": storageNode("n3")},
			want:    []Target{target("n1", "low"), target("n1", "high")}},
		"a filter never takes a device without a stable name": {
			storage: filter(v1alpha1.DeviceFilter{Rotational: ptr.To(false)}),
			seen:    inventory{"n1": storageNode("n1", v1alpha1.Device{Name: "sda", Usable: true}), "n2": storageNode("n2"), "n3": storageNode("n3")}},
		"a filter whose pattern is none": {
			storage: v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Filter: &v1alpha1.DeviceFilter{IDPattern: "("}}}}, seen: one,
			problems: []Problem{{v1alpha1.ReasonBadFilter, "filter.idPattern \"(\" for node n1 is not a regular expression: error parsing regexp: missing closing ): `^(?:()$`"}}},
		"a filter that nothing can match": {
			storage: v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Filter: &v1alpha1.DeviceFilter{MinSize: ptr.To(resource.MustParse("2Gi")), MaxSize: ptr.To(resource.MustParse("1Gi"))}}}}, seen: one,
			problems: []Problem{{v1alpha1.ReasonBadFilter, "filter.minSize 2Gi for node n1 is larger than filter.maxSize 1Gi: no device can match"}}},
		"a node selector takes the nodes with the label, a named node keeps its own devices": {
			storage: v1alpha1.StorageSpec{NodeSelector: &metav1.LabelSelector{MatchLabels: map[string]string{"disks": "yes"}},
				Filter: &v1alpha1.DeviceFilter{IDPattern: ".*"}, Nodes: []v1alpha1.StorageNode{{Name: "n2", Devices: named("disk1")}}},
			seen: inventory{"n1": one["n1"], "n2": one["n1"], "n3": one["n1"]},
			want: []Target{target("n2", "disk1"), target("n3", "disk1"), target("n3", "disk2")}},
		"the device's class wins over its node's, the node's over the cluster's": {
			storage: v1alpha1.StorageSpec{DeviceClass: "hdd", Filter: &v1alpha1.DeviceFilter{IDPattern: "disk1"}, Nodes: []v1alpha1.StorageNode{
				{Name: "n1", DeviceClass: "ssd", Devices: []v1alpha1.StorageDevice{{Name: "disk1", DeviceClass: "nvme"}, {Name: "disk2"}}}, {Name: "n3"}}},
			seen: inventory{"n1": one["n1"], "n3": one["n1"]},
			want: []Target{{Node: "n1", Device: "disk1", Class: "nvme", UUID: UUID(fsid, "n1", "disk1")}, {Node: "n1", Device: "disk2", Class: "ssd", UUID: UUID(fsid, "n1", "disk2")},
				{Node: "n3", Device: "disk1", Class: "hdd", UUID: UUID(fsid, "n3", "disk1")}}},
	} {
		t.Run(name, func(t *testing.T) {
			nodes := []corev1.Node{{ObjectMeta: metav1.ObjectMeta{Name: "n1"}}, {ObjectMeta: metav1.ObjectMeta{Name: "n2", Labels: map[string]string{"disks": "yes"}}},
				{ObjectMeta: metav1.ObjectMeta{Name: "n3", Labels: map[string]string{"disks": "yes"}}}}
			targets, problems := Targets(&v1alpha1.StorageCluster{Spec: v1alpha1.StorageClusterSpec{Storage: test.storage}}, fsid, nodes, test.seen, nil)
			require.Equal(t, test.want, targets)
			require.Equal(t, test.problems, problems)
		})
	}
}

func TestTheUUIDOfAnOSDFollowsFromClusterNodeAndDevice(t *testing.T) {
	first := UUID(fsid, "n1", "disk1")
	require.Equal(t, first, UUID(fsid, "n1", "disk1"))
	require.Equal(t, first, UUID(fsid, "n1", "/dev/disk/by-id/disk1"))
	for _, other := range []string{UUID(fsid, "n2", "disk1"), UUID(fsid, "n1", "disk2"), UUID("99999999-0000-0000-0000-000000000000", "n1", "disk1")} {
		require.NotEqual(t, first, other)
	}
}

func TestLocationFollowsTheTopologyLabels(t *testing.T) {
	for name, test := range map[string]struct {
		labels map[string]string
		want   string
	}{
		"no labels":   {nil, "root=default host=node1-example-com"},
		"only a zone": {map[string]string{corev1.LabelTopologyZone: "west"}, "root=default zone=west host=node1-example-com"},
		"all levels, the widest first": {
			map[string]string{corev1.LabelTopologyZone: "west.1", corev1.LabelTopologyRegion: "eu", "topology.cairn.storage/rack": "r7"},
			"root=default region=eu zone=west-1 rack=r7 host=node1-example-com"},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.want, Location(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1.example.com", Labels: test.labels}}))
		})
	}
}
