package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// toWipe is a cluster whose sixth OSD has left, with its disk as it was, to be wiped.
func toWipe(t *testing.T) *scene {
	s := serving(t)
	takeOut(s)
	gone := s.Ceph.OSDs[5].UUID
	s.Ceph.OSDs, s.Ceph.Status.OSDs, s.Ceph.Status.OSDsUp, s.Ceph.Status.OSDsIn = s.Ceph.OSDs[:5], 5, 5, 5
	delete(s.Deployments, "main-osd-5")
	s.Cluster.Spec.Storage.OnRemoval = v1alpha1.RemovalWipe
	s.Inventory["n3"].Status.Devices[1].OSD = &v1alpha1.DeviceOSD{ID: 5, UUID: gone, FSID: s.Keys.FSID}
	return s
}

const wipeStep = "osd-n3-disk2-wipe"

func TestTheDiskOfAnOSDThatHasLeftIsWiped(t *testing.T) {
	s := toWipe(t)
	got := s.stepNamed(wipeStep)
	require.Equal(t, "empty the disk disk2 on node n3", got.What)
	require.Equal(t, v1alpha1.RiskDestroys, got.Risk)
	require.True(t, got.Afresh, "the server is asked once more")
	job, is := got.Create[0].(*batchv1.Job)
	require.True(t, is)
	require.Equal(t, "n3", job.Spec.Template.Spec.NodeName)
	require.Equal(t, []string{"cairn-daemon", "wipe", "--fsid", s.Keys.FSID, "--osd", s.Inventory["n3"].Status.Devices[1].OSD.UUID, "--device", "/dev/disk/by-id/disk2"},
		job.Spec.Template.Spec.Containers[0].Command, "that OSD of that cluster, and no other")
}

func TestWhatKeepsADiskFromBeingWiped(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		gate   string
	}{
		"two disks bear its OSD": {func(s *scene) {
			copied := s.Inventory["n3"].Status.Devices[1]
			copied.Name, copied.ID = "sdx", "copy"
			s.Inventory["n1"].Status.Devices = append(s.Inventory["n1"].Status.Devices, copied)
		}, "one disk alone bears that OSD: sdx of node n1 and sdb of node n3 do"},
		"its node is not ready": {func(s *scene) { s.Nodes[2].Status.Conditions = nil },
			"node n3, which has the device, is ready. When it is gone for ever, set spec.storage.onRemoval to Keep"},
		"some data has fewer replicas": {func(s *scene) { s.Ceph.Status.PGs = map[string]int{"active+undersized": 2} },
			"all PGs are active+clean"},
		"it cannot be read": {func(s *scene) {
			d := &s.Inventory["n3"].Status.Devices[1]
			d.OSD, d.Usable, d.Reason, d.Message = nil, false, v1alpha1.DeviceCannotBeProbed, "no answer"
		}, "It is refused and left as it is: CannotBeProbed: no answer"},
	} {
		t.Run(name, func(t *testing.T) {
			s := toWipe(t)
			c.change(s)
			require.Contains(t, s.gates()[wipeStep], c.gate)
		})
	}
	t.Run("the spec does not ask for it", func(t *testing.T) {
		s := toWipe(t)
		s.Cluster.Spec.Storage.OnRemoval = "Keep"
		require.Nil(t, s.stepNamed(wipeStep))
	})
	t.Run("its OSD was purged by somebody else", func(t *testing.T) {
		s := toWipe(t)
		for _, secret := range s.Secrets {
			delete(secret.Annotations, "cairn.storage/leaving")
		}
		require.Nil(t, s.stepNamed(wipeStep))
	})
}
