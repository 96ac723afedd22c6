package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
	"github.com/cairn-storage/cairn/operator/osd"
)

// serving is a cluster that runs and has a pool.
func serving(t *testing.T) *scene {
	s := running(t)
	s.Cluster.Generation = 4
	s.Ceph.Status.Pools = 2
	return s
}

// risks of the steps, by name.
func (s *scene) risks() map[string]v1alpha1.Risk {
	risks := map[string]v1alpha1.Risk{}
	for _, step := range s.plan() {
		risks[step.Name] = step.Risk
	}
	return risks
}

func takeOut(s *scene) {
	s.Cluster.Spec.Storage.Nodes[2].Devices = s.Cluster.Spec.Storage.Nodes[2].Devices[:1]
	s.Ceph.Status.BytesUsed = 1 << 30
	s.settle() // the Secret says that it leaves
}

func addDevice(s *scene) {
	s.Inventory["n1"].Status.Devices = append(s.Inventory["n1"].Status.Devices, v1alpha1.Device{Name: "sdc", ID: "disk3", Usable: true})
	devices := &s.Cluster.Spec.Storage.Nodes[0].Devices
	*devices = append(*devices, v1alpha1.StorageDevice{Name: "disk3"})
}

func TestEveryStepSaysWhatItRisks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*scene)
		want   map[string]v1alpha1.Risk
	}{
		"a changed mgr restarts": {func(s *scene) {
			s.Cluster.Spec.Resources.Mgr.Requests = corev1.ResourceList{"memory": resource.MustParse("1Gi")}
		}, map[string]v1alpha1.Risk{"mgr-a": v1alpha1.RiskRestart, "mgr-b": v1alpha1.RiskRestart}},
		"an option is set while daemons run": {func(s *scene) {
			s.Cluster.Spec.Ceph.Config = map[string]v1alpha1.ConfigSection{"osd": {"osd_scrub_sleep": "1"}}
			s.Ceph.Options = map[string]*ceph.Option{"osd_scrub_sleep": option.Shipped("osd_scrub_sleep")}
			s.settle()
		}, map[string]v1alpha1.Risk{"option-osd-osd_scrub_sleep": v1alpha1.RiskNone}},
		"a mgr that is gone is started": {func(s *scene) { delete(s.Deployments, "main-mgr-a") }, map[string]v1alpha1.Risk{"mgr-a": v1alpha1.RiskNone}},
		"a node that says where it is moves its OSDs in the CRUSH map": {func(s *scene) {
			s.Nodes[2].Labels = map[string]string{corev1.LabelTopologyZone: "z"}
		}, map[string]v1alpha1.Risk{"osd-4": v1alpha1.RiskMovesData, "osd-5": v1alpha1.RiskMovesData}},
		"a new OSD takes data from others": {addDevice, map[string]v1alpha1.Risk{"osd-n1-disk3": v1alpha1.RiskMovesData}},
		"a weight moves data": {func(s *scene) {
			s.Cluster.Spec.Storage.Nodes[0].Devices[1].Weight = "2Ti"
			s.settle()
		}, map[string]v1alpha1.Risk{"osd-1-weight": v1alpha1.RiskMovesData}},
		"but not where there is none": {func(s *scene) {
			addDevice(s)
			s.Ceph.Status.Pools = 1
		}, map[string]v1alpha1.Risk{"osd-n1-disk3": v1alpha1.RiskNone}},
		"a drain moves data": {takeOut, map[string]v1alpha1.Risk{"osd-5-drain": v1alpha1.RiskMovesData}},
		"an OSD that nothing needs is stopped": {func(s *scene) {
			takeOut(s)
			s.Ceph.OSDs[5].In, s.Ceph.Needed = false, map[int]string{5: ""}
		}, map[string]v1alpha1.Risk{"osd-5-stop": v1alpha1.RiskNone}},
		"and purged, which is for good": {func(s *scene) {
			takeOut(s)
			s.Ceph.OSDs[5].In, s.Ceph.OSDs[5].Up, s.Ceph.Needed = false, false, map[int]string{5: ""}
			delete(s.Deployments, "main-osd-5")
		}, map[string]v1alpha1.Risk{"osd-5-purge": v1alpha1.RiskDestroys}},
		"one mon less": {func(s *scene) { s.Cluster.Spec.Mon.Count = 1 }, map[string]v1alpha1.Risk{"mon-c-remove": v1alpha1.RiskReducesRedundancy}},
		"a mon that is out of quorum is no loss": {func(s *scene) {
			s.Cluster.Spec.Mon.Count = 1
			s.Ceph.Status.Quorum = []string{"a", "b"}
			s.settle()
		}, map[string]v1alpha1.Risk{"mon-c-remove": v1alpha1.RiskNone}},
	} {
		t.Run(name, func(t *testing.T) {
			s := serving(t)
			c.change(s)
			risks := s.risks()
			for step, want := range c.want {
				require.Equal(t, want, risks[step], "%s of %v", step, risks)
			}
		})
	}
}

func TestAVerbThatNamesNoRiskIsTakenForTheWorst(t *testing.T) {
	require.Equal(t, v1alpha1.RiskDestroys, serving(t).riskOf(&Step{}))
	require.Equal(t, v1alpha1.RiskDestroys, serving(t).riskOf(&Step{Delete: nil, Purge: new(int)}))
}

func TestHeldStepsWaitForApproval(t *testing.T) {
	manual := func(t *testing.T) *scene {
		s := serving(t)
		s.Cluster.Spec.Approval = v1alpha1.ApprovalManual
		takeOut(s)
		return s
	}
	t.Run("and say so, with how to approve", func(t *testing.T) {
		s := manual(t)
		require.Empty(t, s.open())
		require.Equal(t, map[string]string{"osd-5-drain": "it is approved"}, s.gates())
		blocker := s.status().Blocker
		require.Equal(t, v1alpha1.ReasonNeedsApproval, blocker.Reason)
		require.Contains(t, blocker.Message, "'move the data of osd.5 (disk2 on node n3) elsewhere' (MovesData)")
		require.Contains(t, blocker.Message, "kubectl cairn approve main")
		require.True(t, s.status().Plan[0].NeedsApproval)
	})
	t.Run("and go on with it", func(t *testing.T) {
		s := manual(t)
		v1alpha1.Approve(s.Cluster, "osd-5-drain")
		require.Equal(t, []string{"osd-5-drain"}, s.open())
		require.False(t, s.status().Plan[0].NeedsApproval)
	})
	t.Run("but not with that of another step", func(t *testing.T) {
		s := manual(t)
		v1alpha1.Approve(s.Cluster, "osd-4-drain", "osd-5-purge")
		require.Empty(t, s.open())
	})
	t.Run("nor with that of another spec", func(t *testing.T) {
		s := manual(t)
		v1alpha1.Approve(s.Cluster, "osd-5-drain")
		s.Cluster.Generation++
		require.Empty(t, s.open())
	})
	t.Run("nor with one that cannot be read", func(t *testing.T) {
		for _, garbage := range []string{"", "osd-5-drain", ":osd-5-drain", "4 osd-5-drain", "*", "4: *", " 4: osd-5-drain"} {
			s := manual(t)
			s.Cluster.Annotations = map[string]string{v1alpha1.AnnotationApproved: garbage}
			require.Empty(t, s.open(), garbage)
		}
	})
	t.Run("behind what else they wait for", func(t *testing.T) {
		s := manual(t)
		s.Ceph.Status.BytesUsed = 100 << 40
		require.Contains(t, s.gates()["osd-5-drain"], "have room")
		require.True(t, s.status().Plan[0].NeedsApproval)
		v1alpha1.Approve(s.Cluster, "osd-5-drain")
		require.Contains(t, s.gates()["osd-5-drain"], "have room", "an approval opens no other gate")
	})
	t.Run("while all else goes on", func(t *testing.T) {
		s := manual(t)
		s.Cluster.Spec.Resources.Mgr.Requests = corev1.ResourceList{"memory": resource.MustParse("1Gi")}
		require.Equal(t, []string{"mgr-a"}, s.open())
		require.Nil(t, s.status().Blocker)
	})
	t.Run("and a lost mon is replaced without it", func(t *testing.T) {
		s := manual(t)
		s.Nodes = append(s.Nodes, corev1.Node{Status: s.Nodes[0].Status})
		s.Nodes[3].Name = "n4"
		s.Ceph.Status.Quorum = []string{"a", "b"}
		s.Mons[2].MissingSince = s.Now.Add(-1e12)
		require.Contains(t, s.open(), "mon-c-remove")
	})
	t.Run("not where approval is automatic", func(t *testing.T) {
		s := manual(t)
		s.Cluster.Spec.Approval = v1alpha1.ApprovalAutomatic
		require.Equal(t, []string{"osd-5-drain"}, s.open())
	})
}

func TestANewClusterNeedsNoApproval(t *testing.T) {
	s := founding(t)
	s.Cluster.Spec.Approval = v1alpha1.ApprovalManual
	require.Empty(t, with(s.gatesOf(v1alpha1.ReasonNeedsApproval), ""))
	s.Ceph = &CephState{Status: &ceph.Status{Mons: []string{"a"}, Quorum: []string{"a"}, Pools: 1}}
	require.Len(t, with(s.open(), osd.Component+"-n"), 6)
}

// gatesOf are the steps that a gate of one reason holds.
func (s *scene) gatesOf(reason string) (names []string) {
	for _, step := range s.plan() {
		if step.Reason == reason && step.Gate != "" {
			names = append(names, step.Name)
		}
	}
	return names
}
