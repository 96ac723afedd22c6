package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// withFast adds a fast device to n1, which the spec names for the database of a third disk.
func withFast(t *testing.T) *scene {
	s := running(t)
	seen := s.Inventory["n1"]
	for _, name := range []string{"disk3", "disk4", "fast"} {
		seen.Status.Devices = append(seen.Status.Devices, v1alpha1.Device{Name: "k" + name, ID: name, Usable: true, Size: resource.MustParse("10Gi")})
	}
	s.name(v1alpha1.StorageDevice{Name: "disk3", DBDevice: "fast"})
	return s
}

func (s *scene) name(devices ...v1alpha1.StorageDevice) {
	s.Cluster.Spec.Storage.Nodes[0].Devices = append(s.Cluster.Spec.Storage.Nodes[0].Devices, devices...)
}

// said are the problems of what the spec asks for.
func (s *scene) said() (out []string) {
	for _, problem := range desired(s.Observed, helper).Problems {
		out = append(out, problem.Message)
	}
	return out
}

// made gives the OSD of a device of n1 its Secret, with a DB device.
func (s *scene) made(device, db string) osd.Target {
	target := osd.Target{Node: "n1", Device: device, DB: db, UUID: osd.UUID(s.Keys.FSID, "n1", device)}
	secret := osd.Secret(s.Cluster, target, "key", 6, true)
	s.Secrets[secret.Name] = secret
	return target
}

func (s *scene) fast() *v1alpha1.Device { return osd.Find(s.Inventory["n1"], "fast") }

func TestANewOSDGetsTheDBDeviceThatTheSpecNames(t *testing.T) {
	s := withFast(t)
	require.Empty(t, s.said())
	require.Equal(t, "fast", s.stepNamed("osd-n1-disk3").NewOSD.DB)
}

func TestADBDeviceThatCannotServeIsSaid(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(*scene)
		says    string
	}{
		"it holds something": {func(s *scene) {
			s.fast().Usable, s.fast().Reason, s.fast().Message = false, v1alpha1.DeviceHasFilesystem, "a filesystem (ext4)"
		}, `DB device "fast" of device "disk3" on node n1 is refused (HasFilesystem): a filesystem (ext4)`},
		"it has the database of another OSD": {func(s *scene) {
			s.fast().Usable, s.fast().Reason, s.fast().DBOf = false, v1alpha1.DeviceHasOSD, s.Ceph.OSDs[0].UUID
		}, `DB device "fast" of device "disk3" on node n1 is refused (HasOSD): `},
		"it is not there": {func(s *scene) { s.fast().ID = "other" },
			`DB device "fast" of device "disk3" on node n1 does not exist there. The node has: disk1, disk2, disk3, disk4, other. Correct dbDevice in spec.storage.nodes[n1].devices, or plug it in; both are used as soon as it appears`},
		"it is a device itself": {func(s *scene) { s.name(v1alpha1.StorageDevice{Name: "fast"}) },
			`DB device "fast" of device "disk3" on node n1 is named as a device itself. Leave it out of spec.storage.nodes[n1].devices, or leave dbDevice out`},
	} {
		t.Run(name, func(t *testing.T) {
			s := withFast(t)
			test.happens(s)
			require.Equal(t, []string{test.says}, s.said())
			require.Nil(t, s.stepNamed("osd-n1-disk3"))
		})
	}
}

func TestADBDeviceServesOneOSD(t *testing.T) {
	s := withFast(t)
	s.name(v1alpha1.StorageDevice{Name: "disk4", DBDevice: "/dev/disk/by-id/fast"})
	s.fast().Links = []string{"/dev/disk/by-id/fast"}
	require.Equal(t, []string{`DB device "/dev/disk/by-id/fast" on node n1 is named for both "disk3" and "disk4", and serves one OSD alone. Name another one for "disk4", such as a second namespace of the NVMe disk, or leave dbDevice out`}, s.said())
	require.NotNil(t, s.stepNamed("osd-n1-disk3"))
	require.Nil(t, s.stepNamed("osd-n1-disk4"))
}

func TestTheDBDeviceOfAnOSDThatWasMadeStays(t *testing.T) {
	for name, test := range map[string]struct{ had, asks, says string }{
		"it is added":      {"", "fast", `the OSD of device "disk3" on node n1 was made without a DB device, and spec.storage.nodes[n1] has dbDevice fast: that changes nothing`},
		"it is taken away": {"fast", "", `the OSD of device "disk3" on node n1 was made with its database on fast, and spec.storage.nodes[n1] has no dbDevice: that changes nothing`},
		"it is changed":    {"fast", "disk4", `with its database on fast, and spec.storage.nodes[n1] has dbDevice disk4`},
	} {
		t.Run(name, func(t *testing.T) {
			s := withFast(t)
			s.made("disk3", test.had)
			s.Cluster.Spec.Storage.Nodes[0].Devices[2].DBDevice = test.asks
			said := s.said()
			require.Len(t, said, 1)
			require.Contains(t, said[0], test.says)
			d := desired(s.Observed, helper)
			require.Equal(t, v1alpha1.ReasonDBDeviceChanged, d.Problems[0].Reason)
			require.Equal(t, "disk3", d.Targets[2].Device)
			require.Equal(t, test.had, d.Targets[2].DB)
		})
	}
}

func TestADBDeviceIsKnownByItsLabelUnderAnotherName(t *testing.T) {
	s := withFast(t)
	target := s.made("disk3", "/dev/disk/by-path/old")
	s.fast().Usable, s.fast().DBOf = false, target.UUID
	require.Empty(t, s.said())
	require.Equal(t, "fast", desired(s.Observed, helper).Targets[2].DB)
}

func TestALostDBDeviceIsNamedAsTheCause(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(*scene, osd.Target)
		says    string
	}{
		"gone":  {func(s *scene, _ osd.Target) { s.fast().ID = "other" }, "the node does not show its DB device fast any more. Without its database an OSD cannot start, and is lost when that is"},
		"blank": {func(*scene, osd.Target) {}, "its DB device fast is blank"},
		"in another node": {func(s *scene, target osd.Target) {
			s.fast().ID = "other"
			device := &s.Inventory["n2"].Status.Devices[1]
			device.Usable, device.DBOf = false, target.UUID
		}, "its database is on a device of node n2, and its own device in node n1"},
		"something else on it": {func(s *scene, _ osd.Target) {
			s.fast().Usable, s.fast().Reason, s.fast().Message = false, v1alpha1.DeviceHasData, "noise"
		}, "its DB device fast does not show its database (HasData: noise)"},
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t)
			fails(s, func(d []v1alpha1.Device) []v1alpha1.Device { return d })
			s.Inventory["n1"].Status.Devices = append(s.Inventory["n1"].Status.Devices, v1alpha1.Device{Name: "kfast", ID: "fast", Usable: true})
			s.Cluster.Spec.Storage.Nodes[0].Devices[1].DBDevice = "fast"
			test.happens(s, s.made("disk2", "fast"))
			blocker := s.status().Blocker
			require.Equal(t, v1alpha1.ReasonDiskFailed, blocker.Reason)
			require.Contains(t, blocker.Message, "osd.1 (disk2 on node n1) is down: "+test.says)
			require.Contains(t, blocker.Message, "{name: NEW-DEVICE, replaces: disk2}")
		})
	}
}

func TestADBDeviceIsNotEmptiedOnANodeThatDoesNotAnswer(t *testing.T) {
	s := withFast(t)
	s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:2]
	target := s.made("disk3", "fast")
	s.fast().Usable, s.fast().DBOf = false, target.UUID
	require.Len(t, s.stepNamed("osd-n1-disk3-db").Create, 1)
	require.Equal(t, v1alpha1.RiskDestroys, s.stepNamed("osd-n1-disk3-db").Risk)
	s.Nodes[0].Status.Conditions[0].Status = corev1.ConditionUnknown
	require.Contains(t, s.gates()["osd-n1-disk3-db"], "node n1, which has the device, is ready")

	moved := &s.Inventory["n2"].Status.Devices[1]
	moved.Usable, moved.DBOf = false, target.UUID
	for range 20 {
		job, is := s.stepNamed("osd-n1-disk3-db").Create[0].(*batchv1.Job)
		require.True(t, is)
		require.Equal(t, "n2", job.Annotations[kube.AnnotationNode], "it is there now; what n1 shows is old")
	}
}

func TestAPlaceIsAsLargeAsTheDeviceAndItsDatabase(t *testing.T) {
	s := replacing(t, "5Gi")
	s.Inventory["n1"].Status.Devices = append(s.Inventory["n1"].Status.Devices, v1alpha1.Device{Name: "kfast", ID: "fast", Usable: true, Size: resource.MustParse("5Gi")})
	s.mark()
	require.Contains(t, s.gates()["osd-1-replace"], "disk3 has 5.0 GiB")
	s.Cluster.Spec.Storage.Nodes[0].Devices[1].DBDevice = "fast"
	require.Contains(t, s.open(), "osd-1-drain")
}
