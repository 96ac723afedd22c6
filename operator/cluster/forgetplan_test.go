package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/osd"
)

// leftEncrypted is a cluster that an encrypted OSD on disk3 of n1 has left, all but its Secret.
func leftEncrypted(t *testing.T) (*scene, osd.Target) {
	s, target := withEncrypted(t)
	s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:2]
	s.mark()
	s.Ceph.OSDs = s.Ceph.OSDs[:6]
	s.lookup = lookup{}
	return s, target
}

func (s *scene) degraded() { s.Ceph.Status.PGs = map[string]int{"active+undersized+degraded": 3} }

func (s *scene) clean() { s.Ceph.Status.PGs = map[string]int{"active+clean": 33} }

const forgetStep = "osd-n1-disk3"

func TestTheKeyOfAnEncryptedDiskStaysUntilAllPGsAreClean(t *testing.T) {
	s, target := leftEncrypted(t)
	deployment, secret := s.osdDeployment(target.UUID), s.Secrets[s.secretOf(target)]
	require.Equal(t, []client.Object{deployment, secret}, s.stepNamed(forgetStep).Delete)
	s.degraded()
	require.Equal(t, []client.Object{deployment}, s.stepNamed(forgetStep).Delete, "nothing is lost by that")
	require.Equal(t, "stop the OSD of disk3 on node n1", s.stepNamed(forgetStep).What)
	require.Contains(t, s.open(), forgetStep)
	delete(s.Deployments, deployment.Name)
	require.Contains(t, s.gates()[forgetStep], "all PGs are active+clean (3 are active+undersized+degraded): until then its disk, which is encrypted, may be the last that has something")
	require.Equal(t, v1alpha1.ReasonNotSafeToRemove, s.stepNamed(forgetStep).Reason)
	s.clean()
	require.Equal(t, []client.Object{secret}, s.stepNamed(forgetStep).Delete)
	require.Contains(t, s.open(), forgetStep)
}

func TestAKeyThatOpensNothingSecretIsForgottenAtOnce(t *testing.T) {
	s, target := leftEncrypted(t)
	delete(s.Secrets[s.secretOf(target)].Data, "encryption-key")
	osd.Find(s.Inventory["n1"], "disk3").OSD.Encrypted = false
	s.degraded()
	require.Contains(t, s.open(), forgetStep)
	require.Len(t, s.stepNamed(forgetStep).Delete, 2)
}

// A disk that a person has wiped is needed to make all whole again: its old key is in the way.
func TestABlankDiskThatIsNamedAgainDoesNotWaitForItsOldKey(t *testing.T) {
	s, target := leftEncrypted(t)
	delete(s.Deployments, s.osdDeployment(target.UUID).Name)
	s.name(v1alpha1.StorageDevice{Name: "disk3"})
	s.degraded()
	require.Contains(t, s.gates()[forgetStep], "all PGs are active+clean", "it has its data still")
	*osd.Find(s.Inventory["n1"], "disk3") = v1alpha1.Device{Name: "sdc", ID: "disk3", Usable: true, Size: resource.MustParse("10Gi")}
	require.Contains(t, s.open(), forgetStep)
	require.Equal(t, "forget the key of the OSD of disk3 on node n1", s.stepNamed(forgetStep).What)
}

// A Secret that stays for its encryption key has no place in Ceph any more: another has it, also
// when that is destroyed in its turn.
func TestAKeyThatStaysGivesNobodysPlaceUp(t *testing.T) {
	s, target := leftEncrypted(t)
	delete(s.Deployments, s.osdDeployment(target.UUID).Name)
	s.degraded()
	other := s.Ceph.OSDs[5]
	other.ID, other.UUID = 6, osd.UUID(s.Keys.FSID, "n1", "disk4")
	s.Ceph.OSDs = append(s.Ceph.OSDs, other)
	s.lookup = lookup{}
	step := s.stepNamed(forgetStep + "-id")
	require.Contains(t, s.open(), step.Name)
	require.Equal(t, v1alpha1.RiskNone, step.Risk)
	secret, is := step.Apply[0].(*corev1.Secret)
	require.True(t, is)
	require.Equal(t, []byte("the key"), secret.Data["encryption-key"])
	require.Equal(t, "true", secret.Annotations["cairn.storage/leaving"])
	_, has := osd.ID(secret)
	require.False(t, has)
	s.Secrets[secret.Name] = stamped(t, secret)
	for _, destroyed := range []bool{false, true} {
		s.Ceph.OSDs[6].Destroyed = destroyed
		require.Contains(t, s.gates()[forgetStep], "all PGs are active+clean")
		require.Empty(t, with(s.open(), "osd-6"))
	}
	require.ElementsMatch(t, []string{"osd.0", "osd.1"}, osdNames(s.recoveryOSDs("n1", nil)), "and it is not read in the other's place")
}

func TestADBDeviceIsEmptiedOnlyWhileAllPGsAreClean(t *testing.T) {
	const step = "osd-n1-disk3-db"
	left := func(t *testing.T) *scene {
		s := withFast(t)
		s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:2]
		target := s.made("disk3", "fast")
		s.fast().Usable, s.fast().DBOf = false, target.UUID
		s.degraded()
		return s
	}
	t.Run("one that nobody needs", func(t *testing.T) {
		s := left(t)
		require.Contains(t, s.gates()[step], "all PGs are active+clean (3 are active+undersized+degraded): until then its disk may be the last that has something, and nobody reads it without its database")
		require.Equal(t, v1alpha1.ReasonNotSafeToRemove, s.stepNamed(step).Reason)
		s.clean()
		require.Contains(t, s.open(), step)
	})
	t.Run("one that the OSD needs which takes the place", func(t *testing.T) {
		s := left(t)
		s.name(v1alpha1.StorageDevice{Name: "disk4", Replaces: "disk3", DBDevice: "fast"})
		require.Contains(t, s.open(), step)
		require.Nil(t, s.stepNamed("osd-n1-disk4"), "it comes after")
	})
	t.Run("and an OSD that does not need it takes the place meanwhile", func(t *testing.T) {
		s := left(t)
		gone := s.Ceph.OSDs[5]
		gone.ID, gone.UUID, gone.Destroyed = 6, "00000000-0000-0000-0000-000000000000", true
		s.Ceph.OSDs = append(s.Ceph.OSDs, gone)
		s.lookup = lookup{}
		s.name(v1alpha1.StorageDevice{Name: "disk4", Replaces: "disk3"})
		require.Contains(t, s.gates()[step], "all PGs are active+clean")
		require.Contains(t, s.open(), "osd-n1-disk4")
		require.Equal(t, 6, *s.stepNamed("osd-n1-disk4").Renew)
	})
}
