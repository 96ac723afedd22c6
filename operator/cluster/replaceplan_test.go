package cluster

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// replacing is a running cluster whose OSD on disk2 of n1 is to give its place to disk3.
func replacing(t *testing.T, size string) *scene {
	s := running(t)
	fails(s, func(d []v1alpha1.Device) []v1alpha1.Device { return d })
	s.Ceph.OSDs[1].Up, s.Ceph.OSDs[1].Weight = true, 0.0098
	s.Ceph.Missed, s.Ceph.Needed = map[int]string{}, map[int]string{}
	seen := s.Inventory["n1"]
	seen.Status.Devices = append(seen.Status.Devices, v1alpha1.Device{Name: "sdc", ID: "disk3", Usable: true, Size: resource.MustParse(size)})
	s.Cluster.Spec.Storage.Nodes[0].Devices[1] = v1alpha1.StorageDevice{Name: "disk3", Replaces: "disk2"}
	return s
}

// die has the device of the OSD that is replaced be gone, and the Secret be as desired.
func (s *scene) die() {
	s.Ceph.OSDs[1].Up = false
	seen := s.Inventory["n1"]
	seen.Status.Devices = append(seen.Status.Devices[:1], seen.Status.Devices[2:]...)
	s.mark()
}

func (s *scene) mark() {
	for _, secret := range desired(s.Observed, helper).OSDSecrets {
		s.Secrets[secret.Name] = stamped(s.t, secret)
	}
}

func (s *scene) stepNamed(name string) *Step {
	steps := s.plan()
	for i := range steps {
		if steps[i].Name == name {
			return &steps[i]
		}
	}
	return nil
}

func TestADeviceOfTheSameSizeTakesAPlaceAndASmallerOneDoesNot(t *testing.T) {
	s := replacing(t, "9Gi")
	s.mark()
	require.Contains(t, s.gates()["osd-1-replace"], "disk3 has 9.0 GiB, and the place in Ceph's CRUSH map is for 10.0 GiB")
	s = replacing(t, "10Gi")
	s.mark()
	require.Contains(t, s.open(), "osd-1-drain", "it runs: its data is moved first")
}

func TestNothingIsDoneToAnOSDBeforeItsSecretSaysThatItLeaves(t *testing.T) {
	s := replacing(t, "10Gi")
	require.Contains(t, s.gates()["osd-1-replace"], "the Secret of the OSD bears its ID")
}

func TestALostOSDGivesItsPlaceStepByStep(t *testing.T) {
	s := replacing(t, "10Gi")
	s.die()
	require.True(t, s.stepNamed("osd-1-drained").Wait, "Ceph was not asked yet")
	s.Ceph.Missed[1] = "8 PGs are down"
	require.Contains(t, s.stepNamed("osd-1-drained").What, "8 PGs are down")
	s.Ceph.Missed[1] = ""
	require.Contains(t, s.open(), "osd-1-stop")
	delete(s.Deployments, osd.DeploymentName(s.Cluster, 1))
	require.Equal(t, []string{"osd-1-destroy"}, s.open())
	require.Equal(t, &EndOSD{ID: 1, UUID: s.Ceph.OSDs[1].UUID, Lost: true}, s.stepNamed("osd-1-destroy").EndOSD)

	s.Ceph.Missed[1] = "8 PGs are down"
	require.Equal(t, []string{"osd-1"}, s.open(), "it is started again: it may come back")
	s.Ceph.Missed[1] = ""

	s.Ceph.OSDs[1].UUID, s.Ceph.OSDs[1].Destroyed = "00000000-0000-0000-0000-000000000000", true
	require.Equal(t, []string{"osd-n1-disk3"}, s.open())
	require.Equal(t, 1, *s.stepNamed("osd-n1-disk3").Renew)
	s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:1]
	require.Equal(t, []string{"osd-1-drain"}, s.open(), "the place is given up with the spec's word, once its data is elsewhere in full")
	s.Ceph.OSDs[1].In, s.Ceph.Needed = false, map[int]string{1: "8 PGs are mapped to it"}
	require.True(t, s.stepNamed("osd-1-drained").Wait)
	s.Ceph.Needed[1] = ""
	require.Equal(t, []string{"osd-1-purge"}, s.open())
}

// Of a slot whose disk was replaced twice the first OSD's Secret may be there still: no new ID is
// made while that of the second waits.
func TestOfASlotThatIsReplacedAgainTheIDThatWaitsIsTaken(t *testing.T) {
	s := replacing(t, "10Gi")
	s.mark()
	uuid := s.Ceph.OSDs[1].UUID
	s.Ceph.OSDs[1].Destroyed, s.Ceph.OSDs[1].UUID, s.Ceph.OSDs[1].Up = true, "", false
	waiting := s.Secrets[osd.SecretName(s.Cluster, uuid)]
	for _, digit := range "0f" {
		first := waiting.DeepCopy()
		first.Annotations[kube.AnnotationUUID] = strings.Repeat(string(digit), 8) + first.Annotations[kube.AnnotationUUID][8:]
		first.Name = osd.SecretName(s.Cluster, first.Annotations[kube.AnnotationUUID])
		delete(first.Data, "keyring")
		require.NotEqual(t, waiting.Name, first.Name)
		s.Secrets[first.Name] = first
	}
	target := osd.Target{Node: "n1", Device: "disk3", Replaces: "disk2", UUID: osd.UUID(s.Keys.FSID, "n1", "disk3")}
	require.Equal(t, waiting.Name, s.whosePlace(target).Name)
	s.Ceph.OSDs[1].Destroyed, s.Ceph.OSDs[1].UUID, s.lookup = false, uuid, lookup{}
	require.Equal(t, waiting.Name, s.whosePlace(target).Name, "its ID is to wait")
}

// An OSD that has the ID and weight of another has not served data yet: its disk is to be prepared.
func TestAnOSDInThePlaceOfAnotherIsPrepared(t *testing.T) {
	s := replacing(t, "10Gi")
	target := osd.Target{Node: "n1", Device: "disk3", UUID: osd.UUID(s.Keys.FSID, "n1", "disk3")}
	s.Ceph.OSDs[1].UUID, s.Ceph.OSDs[1].New, s.Ceph.OSDs[1].Up = target.UUID, true, false
	s.OSDKeys[target.UUID] = "key"
	for _, secret := range desired(s.Observed, helper).OSDSecrets {
		if secret.Name == osd.SecretName(s.Cluster, target.UUID) {
			require.False(t, osd.Formatted(secret))
			return
		}
	}
	require.Fail(t, "it has no Secret")
}
