package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/mon"
)

func (s *scene) foresee() *Foresight {
	for _, m := range s.Mons {
		if service := s.Services[mon.ObjectName(s.Cluster, m.Name)]; service != nil {
			service.Spec.ClusterIP = m.Address
		}
	}
	f, err := foresee(s.Observed, helper)
	require.NoError(s.t, err)
	return f
}

// steps are the names of those that are foreseen.
func (f *Foresight) names() (names []string) {
	for _, s := range f.Steps {
		names = append(names, s.Name)
	}
	return names
}

func TestNothingIsForeseenOfAClusterAsSpecified(t *testing.T) {
	f := running(t).foresee()
	require.Empty(t, f.Steps)
	require.Nil(t, f.Blocker)
	require.Empty(t, f.Stop)
}

func TestANewClusterIsForeseenToItsEnd(t *testing.T) {
	f := empty(t).foresee()
	require.Nil(t, f.Blocker)
	require.Empty(t, f.Stop)
	require.Equal(t, "keys", f.names()[0])
	require.Subset(t, f.names()[:5], []string{"main-mon-a", "main-mon-b", "main-mon-c"}, "no mon starts before all have their addresses")
	require.Subset(t, f.names(), []string{"mon-a", "quorum", "mgr-b", "osd-n3-disk2", "osd-5", "osd-5-up"})
	require.Zero(t, f.CapacityBefore)
	require.EqualValues(t, 60<<30, f.CapacityAfter)
}

func TestAnAddedDeviceIsForeseenToItsOSDsStart(t *testing.T) {
	s := serving(t)
	addDevice(s)
	s.Inventory["n1"].Status.Devices[2].Size = resource.MustParse("1Ti")
	f := s.foresee()
	secret := f.names()[1]
	require.Contains(t, secret, "main-osd-")
	require.Equal(t, []string{"osd-n1-disk3", secret, "osd-6", "osd-6-up"}, f.names())
	require.Equal(t, v1alpha1.RiskMovesData, f.Steps[0].Risk)
	require.EqualValues(t, 6<<40, f.CapacityBefore)
	require.EqualValues(t, 7<<40, f.CapacityAfter)
}

func TestARemovalIsForeseenToItsEnd(t *testing.T) {
	s := serving(t)
	s.Cluster.Spec.Storage.Nodes[2].Devices = s.Cluster.Spec.Storage.Nodes[2].Devices[:1]
	f := s.foresee()
	require.Nil(t, f.Blocker)
	require.Equal(t, []string{"osd-5-drain", "osd-5-drained", "osd-5-stop", "osd-5-purge", "osd-n3-disk2"}, f.names()[1:])
	require.Equal(t, "the Secret of the OSD says that it leaves", f.Steps[1].Gate)
	require.EqualValues(t, 5<<40, f.CapacityAfter)
}

func TestRestartsAreForeseenOneAfterTheOther(t *testing.T) {
	s := serving(t)
	more := corev1.ResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceMemory: resource.MustParse("5Gi")}}
	s.Cluster.Spec.Resources.Mon, s.Cluster.Spec.Resources.Mgr, s.Cluster.Spec.Resources.OSD = more, more, more
	f := s.foresee()
	require.Equal(t, []string{"mon-a", "mgr-a", "osd-0", "osd-1"}, f.names()[:4])
	require.Len(t, f.Steps, 3+2+6)
	for _, step := range f.Steps {
		require.Equal(t, v1alpha1.RiskRestart, step.Risk)
	}
}

func TestWhatStopsAPlanIsForeseen(t *testing.T) {
	s := serving(t)
	s.Cluster.Spec.Storage.Nodes[2].Devices = s.Cluster.Spec.Storage.Nodes[2].Devices[:1]
	s.Ceph.Status.BytesUsed = 100 << 40
	f := s.foresee()
	require.Equal(t, v1alpha1.ReasonNotSafeToRemove, f.Blocker.Reason)
	require.Contains(t, f.Stop, "osd.5")
	t.Run("nothing counts on what is broken", func(t *testing.T) {
		s := serving(t)
		s.Ceph.OSDs[0].Up, s.Ceph.Status.OSDsUp = false, 5
		s.Cluster.Spec.Mgr.Count = 1
		s.Cluster.Spec.Storage.Nodes[2].Devices[0].DeviceClass = "" // as it was
		s.Deployments["main-osd-3"].Annotations["cairn.storage/applied"] = "another"
		f := s.foresee()
		require.Equal(t, []string{"osd-0-up"}, f.names())
		require.Contains(t, f.Stop, "osd-3")
	})
}

func TestApprovalsAreForeseen(t *testing.T) {
	s := serving(t)
	s.Cluster.Spec.Approval = v1alpha1.ApprovalManual
	s.Cluster.Spec.Storage.Nodes[2].Devices = s.Cluster.Spec.Storage.Nodes[2].Devices[:1]
	v1alpha1.Approve(s.Cluster, "osd-5-drain")
	var needed []string
	for _, step := range s.foresee().Steps {
		if step.NeedsApproval {
			needed = append(needed, step.Name)
		}
	}
	require.Equal(t, []string{"osd-5-purge"}, needed)
}

func TestForeseeingChangesNothing(t *testing.T) {
	s := serving(t)
	takeOut(s)
	addDevice(s)
	s.Cluster.Spec.Mon.Count = 1
	before, osds := s.Cluster.DeepCopy(), append(s.Ceph.OSDs[:0:0], s.Ceph.OSDs...)
	deployments := map[string]*appsv1.Deployment{}
	for name, d := range s.Deployments {
		deployments[name] = d.DeepCopy()
	}
	plan := s.plan()
	s.foresee()
	require.Equal(t, before, s.Cluster)
	require.Equal(t, osds, s.Ceph.OSDs)
	require.Equal(t, deployments, s.Deployments)
	require.Equal(t, plan, s.plan())
}
