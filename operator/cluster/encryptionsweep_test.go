package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// A disk is added to a cluster that is to be encrypted from now on. The simulation has checked
// that the disk is always opened with the key that it was made with.
func beginEncryptedDisk(t *testing.T) (*site, func()) {
	s := newSite(t)
	s.converge()
	s.look()
	return s, func() {
		s.edit(func(c *v1alpha1.StorageCluster) {
			c.Spec.Storage.Encrypted = true
			c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
		})
		s.looksUntil("it is used", func() bool { return s.known() != nil && s.known().Up })
		s.looks(3 + s.lag)
		c := s.converge()
		require.Len(t, s.encryptionKeys(), 1, "what was made before stays as it is")
		require.Contains(t, meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionEncrypted).Message, "3 OSDs are not encrypted: osd.0 (disk1 on node node1), ")
	}
}

// encryptionKeys are those in the Secrets of OSDs.
func (s *site) encryptionKeys() (keys []string) {
	var secrets corev1.SecretList
	require.NoError(s.t, s.Client.List(s.t.Context(), &secrets, client.InNamespace(s.Namespace)))
	for i := range secrets.Items {
		if key := secrets.Items[i].Data["encryption-key"]; len(key) > 0 {
			keys = append(keys, string(key))
		}
	}
	return keys
}

// A Secret that is deleted is named, and no other is made in its place.
func TestADeletedEncryptionKeyIsNotMadeAnew(t *testing.T) {
	s, act := beginEncryptedDisk(t)
	act()
	var secrets corev1.SecretList
	require.NoError(t, s.Client.List(t.Context(), &secrets, client.InNamespace(s.Namespace)))
	var kept *corev1.Secret
	for i := range secrets.Items {
		if len(secrets.Items[i].Data["encryption-key"]) > 0 {
			kept = &secrets.Items[i]
			require.NoError(t, s.Client.Delete(t.Context(), kept))
		}
	}
	for range 5 { // the simulation starts no OSD without its Secret
		s.reconcile()
	}
	require.Empty(t, s.encryptionKeys())
	require.Equal(t, v1alpha1.ReasonEncryptionKeyMissing, s.cluster().Status.Blocker.Reason)
	kept.ResourceVersion, kept.UID = "", ""
	require.NoError(t, s.Client.Create(t.Context(), kept), "as from a backup")
	require.Nil(t, s.converge().Status.Blocker)
	require.Equal(t, []string{string(kept.Data["encryption-key"])}, s.encryptionKeys())
}
