package cluster

import (
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/osd"
)

// encrypting is a running cluster that is to be encrypted from now on, with one more disk, on
// a node that can do that, or that says why not.
func encrypting(t *testing.T, not string) *scene {
	s := running(t)
	s.Cluster.Spec.Storage.Encrypted = true
	seen := s.Inventory["n1"]
	seen.Status.Encryption = &v1alpha1.NodeEncryption{Available: not == "", Message: not}
	seen.Status.Devices = append(seen.Status.Devices, v1alpha1.Device{Name: "sdc", ID: "disk3", Usable: true, Size: resource.MustParse("10Gi")})
	s.name(v1alpha1.StorageDevice{Name: "disk3"})
	return s
}

// withEncrypted has the OSD on disk3 run, encrypted.
func withEncrypted(t *testing.T) (*scene, osd.Target) {
	s := encrypting(t, "")
	target := *s.stepNamed("osd-n1-disk3").NewOSD
	secret := osd.WithEncryptionKey(osd.Secret(s.Cluster, target, "key", 6, true), []byte("the key"))
	s.Secrets[secret.Name], s.OSDKeys[target.UUID] = stamped(t, secret), "key"
	known := s.Ceph.OSDs[0]
	known.ID, known.UUID = 6, target.UUID
	s.Ceph.OSDs = append(s.Ceph.OSDs, known)
	s.settle()
	device := osd.Find(s.Inventory["n1"], "disk3")
	device.Usable, device.Reason = false, v1alpha1.DeviceHasOSD
	device.OSD = &v1alpha1.DeviceOSD{ID: 6, UUID: target.UUID, FSID: s.Keys.FSID, Encrypted: true}
	s.lookup = lookup{}
	require.Empty(t, s.said())
	return s, target
}

func (s *scene) secretOf(t osd.Target) string { return osd.SecretName(s.Cluster, t.UUID) }

func TestANewOSDIsEncryptedWhereTheSpecSaysSo(t *testing.T) {
	s := encrypting(t, "")
	step := s.stepNamed("osd-n1-disk3")
	require.True(t, step.NewOSD.Encrypted)
	require.Equal(t, "make an encrypted OSD of disk3 on node n1", step.What)
	require.Empty(t, s.said())
	s.Cluster.Spec.Storage.Encrypted = false
	require.False(t, s.stepNamed("osd-n1-disk3").NewOSD.Encrypted)
}

func TestNoOSDIsMadeWhereItCannotBeEncrypted(t *testing.T) {
	for _, why := range []string{"Linux 6.1 has no dm-crypt", ""} {
		s := encrypting(t, why)
		if why == "" {
			s.Inventory["n1"].Status.Encryption, why = nil, "its agent has not reported whether the kernel has dm-crypt"
		}
		require.Nil(t, s.stepNamed("osd-n1-disk3"))
		blocker := s.status().Blocker
		require.Equal(t, v1alpha1.ReasonEncryptionUnavailable, blocker.Reason)
		require.Equal(t, "node n1 cannot encrypt devices: "+why+`. spec.storage.encrypted is true, so no OSD is made of device "disk3" there. Boot a kernel with dm-crypt, or take the device out of spec.storage`, blocker.Message)
		s.Cluster.Spec.Storage.Encrypted = false
		require.NotNil(t, s.stepNamed("osd-n1-disk3"))
	}
}

// What an OSD is stays, whatever the spec says later, and is said.
func TestAnOSDStaysAsItWasMade(t *testing.T) {
	s, target := withEncrypted(t)
	deployment := s.osdDeployment(target.UUID)
	require.Contains(t, deployment.Spec.Template.Spec.Containers[0].Command, "/run/encryption/encryption-key")
	require.NotNil(t, volumeOf(deployment, "encryption"))
	require.Equal(t, "true", deployment.Annotations["cairn.storage/encrypted"])
	for _, asked := range []bool{true, false} {
		s.Cluster.Spec.Storage.Encrypted = asked
		require.Empty(t, s.open())
		status := s.status()
		require.Nil(t, status.Blocker)
		c := meta.FindStatusCondition(status.Conditions, v1alpha1.ConditionEncrypted)
		require.Equal(t, v1alpha1.ReasonNotAllEncrypted, c.Reason)
		require.Contains(t, c.Message, "6 OSDs are not encrypted: osd.0 (disk1 on node n1), ")
		require.NotContains(t, c.Message, "osd.6")
	}
	require.Nil(t, meta.FindStatusCondition(running(t).status().Conditions, v1alpha1.ConditionEncrypted), "nobody asks")

	d := desired(s.Observed, helper)
	for i := range d.Targets {
		d.Targets[i].Encrypted = true
	}
	require.Equal(t, metav1.ConditionTrue, encryptedCondition(s.Observed, d).Status)
}

// Without its key an encrypted OSD is neither made anew nor restarted, and what is lost is said.
func TestALostEncryptionKeyIsSaidAndNothingIsDone(t *testing.T) {
	for name, test := range map[string]struct {
		lose func(*scene, osd.Target)
		says string
	}{
		"its Secret is deleted, while it runs": {func(s *scene, t osd.Target) { delete(s.Secrets, s.secretOf(t)); delete(s.OSDKeys, t.UUID) },
			"osd.6 still runs, and does not start again: its pod has the key in /run/encryption/encryption-key"},
		"the Secret has no key any more": {func(s *scene, t osd.Target) { delete(s.Secrets[s.secretOf(t)].Data, "encryption-key") }, "Restore the Secret from a backup"},
		"the device is not shown": {func(s *scene, t osd.Target) {
			delete(s.Secrets, s.secretOf(t))
			delete(s.OSDKeys, t.UUID)
			s.Inventory["n1"].Status.Devices = s.Inventory["n1"].Status.Devices[:2]
		}, "its key is gone"},
		"it is down": {func(s *scene, t osd.Target) {
			delete(s.Secrets, s.secretOf(t))
			delete(s.OSDKeys, t.UUID)
			s.osd(t.UUID).Up = false
		}, "or put another device in the place of osd.6"},
	} {
		t.Run(name, func(t *testing.T) {
			s, target := withEncrypted(t)
			test.lose(s, target)
			s.lookup = lookup{}
			require.Empty(t, s.open())
			blocker := s.status().Blocker
			require.Equal(t, v1alpha1.ReasonEncryptionKeyMissing, blocker.Reason)
			require.Contains(t, blocker.Message, `device "disk3" on node n1 is encrypted, and its key is gone: Secret `+s.secretOf(target))
			require.Contains(t, blocker.Message, test.says)
		})
	}
}

// A device on which an OSD was begun holds nothing: taken out and named again it is made anew,
// with a key of its own, and encrypted as it was begun.
func TestABegunEncryptedDeviceIsMadeAnewWithAnotherKey(t *testing.T) {
	for _, asked := range []bool{true, false} {
		s := encrypting(t, "")
		target := *s.stepNamed("osd-n1-disk3").NewOSD
		device := osd.Find(s.Inventory["n1"], "disk3")
		device.Usable, device.Reason = false, v1alpha1.DeviceHasOSD
		device.OSD = &v1alpha1.DeviceOSD{ID: -1, UUID: target.UUID, FSID: s.Keys.FSID, Encrypted: true}
		s.Cluster.Spec.Storage.Encrypted = asked
		require.Empty(t, s.said())
		step := s.stepNamed("osd-n1-disk3")
		require.NotNil(t, step)
		require.True(t, step.NewOSD.Encrypted)
		require.Equal(t, target.UUID, step.NewOSD.UUID)

		s.Inventory["n1"].Status.Encryption = &v1alpha1.NodeEncryption{Message: "Linux 6.1 has no dm-crypt"}
		require.Nil(t, s.stepNamed("osd-n1-disk3"), "it is never made without")
		require.Equal(t, asked, strings.Contains(s.said()[0], "spec.storage.encrypted is true"))
		require.Equal(t, !asked, strings.Contains(s.said()[0], `An encrypted OSD was begun on device "disk3" there`))

		s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: 6, UUID: target.UUID, New: true})
		s.lookup = lookup{}
		require.Contains(t, s.status().Blocker.Message, "its key is gone", "Ceph knows the OSD, and no other key would be made")
	}
}

// An encrypted disk that is in a node which cannot encrypt does not start, and that is said.
func TestAnEncryptedOSDThatCannotStartIsSaid(t *testing.T) {
	s, _ := withEncrypted(t)
	s.Inventory["n1"].Status.Encryption = &v1alpha1.NodeEncryption{Message: "Linux 6.1 has no dm-crypt"}
	require.Equal(t, []string{`node n1 cannot encrypt devices: Linux 6.1 has no dm-crypt. The OSD of device "disk3" there is encrypted, and cannot start again. Boot a kernel with dm-crypt, or move the disk to a node that has it`}, s.said())
	require.Empty(t, s.open())
	s.Inventory["n1"].Status.Encryption = nil
	require.Empty(t, s.said(), "an agent of before says nothing, and the OSD runs on")
}

// The plan of an edit says what is encrypted, and where that cannot be.
func TestEncryptionIsForeseen(t *testing.T) {
	s := encrypting(t, "")
	f, err := foresee(s.Observed, helper)
	require.NoError(t, err)
	require.Nil(t, f.Blocker)
	require.Equal(t, "make an encrypted OSD of disk3 on node n1", f.Steps[0].What)
	f, err = foresee(encrypting(t, "Linux 6.1 has no dm-crypt").Observed, helper)
	require.NoError(t, err)
	require.Equal(t, v1alpha1.ReasonEncryptionUnavailable, f.Blocker.Reason)
}

// The Job that reads the OSD maps of a node opens encrypted disks as their OSDs do.
func TestTheMapsOfAnEncryptedOSDAreReadWithItsKey(t *testing.T) {
	s, target := withEncrypted(t)
	record := &v1alpha1.MonRecoveryStatus{From: v1alpha1.FromOSDs, Backup: "collected-1", Image: "ceph"}
	job := s.collectJob(record, helper, "n1", s.recoveryOSDs("n1", nil))
	pod := job.Spec.Template.Spec
	require.Contains(t, pod.Containers[0].Command, "6,"+target.UUID+",/dev/disk/by-id/disk3,,/run/encryption/6/encryption-key")
	require.Contains(t, pod.Containers[0].Command, "0,"+s.Ceph.OSDs[0].UUID+",/dev/disk/by-id/disk1,,", "one that is not encrypted has no key")
	at := slices.IndexFunc(pod.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == "/run/encryption/6" })
	require.Positive(t, at)
	from := slices.IndexFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Name == pod.Containers[0].VolumeMounts[at].Name })
	require.Equal(t, s.secretOf(target), pod.Volumes[from].Secret.SecretName)
	require.Equal(t, []corev1.KeyToPath{{Key: "encryption-key", Path: "encryption-key"}}, pod.Volumes[from].Secret.Items, "and nothing else of it")
	require.Len(t, slices.DeleteFunc(pod.Volumes, func(v corev1.Volume) bool { return v.Secret == nil }), 1)
	require.True(t, *pod.Containers[0].SecurityContext.Privileged)
	for _, dir := range []string{"/dev", "/run/udev"} {
		require.True(t, slices.ContainsFunc(pod.Containers[0].VolumeMounts, func(m corev1.VolumeMount) bool { return m.MountPath == dir }), dir)
	}
}

func TestAQuorumIsNotRebuiltWhileAnEncryptedOSDHasNoKey(t *testing.T) {
	s, target := withEncrypted(t)
	s.Cluster.Spec.Mon.Recovery = &v1alpha1.MonRecovery{From: v1alpha1.FromOSDs}
	require.Empty(t, s.osdsRefusal())
	delete(s.Secrets[s.secretOf(target)].Data, "encryption-key")
	require.Contains(t, s.osdsRefusal(), "Those of these are gone: osd.6 (disk3 on node n1): Secret "+s.secretOf(target)+" has no encryption-key. One of them may have the newest map. Restore the Secrets from a backup")
	s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:2]
	require.Empty(t, s.osdsRefusal(), "it is given up")
}
