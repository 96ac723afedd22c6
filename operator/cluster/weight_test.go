package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/osd"
)

// weighed is a cluster of OSDs of 10 GiB, in which osd.1 has a weight, and the spec gives it one.
func weighed(t *testing.T, weight float64, spec string) *scene {
	s := running(t)
	for i := range s.Ceph.OSDs {
		s.Ceph.OSDs[i].BytesTotal, s.Ceph.OSDs[i].Weight = 10<<30, 10.0/1024
	}
	s.mark()
	s.Ceph.OSDs[1].Weight = weight
	s.weigh(spec)
	return s
}

func (s *scene) weigh(spec string) { s.Cluster.Spec.Storage.Nodes[0].Devices[1].Weight = spec }

// says is what an annotation of the Secret of osd.1 is to be.
func (s *scene) says(annotation string) string {
	name := osd.SecretName(s.Cluster, s.Ceph.OSDs[1].UUID)
	for _, secret := range desired(s.Observed, helper).OSDSecrets {
		if secret.Name == name {
			return secret.Annotations[annotation]
		}
	}
	return ""
}

const fromSpec = "cairn.storage/weight-from-spec"

func TestAnOSDGetsTheWeightThatTheSpecGivesItsDevice(t *testing.T) {
	s := weighed(t, 10.0/1024, "5Gi")
	require.Equal(t, "the Secret of the OSD says that its weight comes from the spec", s.gates()["osd-1-weight"])
	s.mark()
	got := s.stepNamed("osd-1-weight")
	require.Empty(t, got.Gate)
	require.Equal(t, "lower the CRUSH weight of osd.1 (disk2 on node n1) from 0.0098 to 0.0049 TiB", got.What)
	require.Equal(t, "the spec gives its device this weight", got.Why)
	require.Equal(t, v1alpha1.RiskMovesData, got.Risk)
	require.Equal(t, &SetWeight{ID: 1, UUID: s.Ceph.OSDs[1].UUID, From: 10.0 / 1024, To: 5.0 / 1024}, got.SetWeight)

	for name, weight := range map[string]float64{"as Ceph writes it": 0.0049, "exactly": 5.0 / 1024} {
		s.Ceph.OSDs[1].Weight = weight
		require.Nil(t, s.stepNamed("osd-1-weight"), name)
	}
	s.Ceph.OSDs[1].Weight = 0.008 // by hand
	require.NotNil(t, s.stepNamed("osd-1-weight"), "the spec is what counts")
}

func TestAWeightGoesBackToThatOfTheSizeOnlyWhereTheSpecGaveIt(t *testing.T) {
	s := weighed(t, 0.0049, "")
	require.Nil(t, s.stepNamed("osd-1-weight"), "a person chose it")

	for name, weight := range map[string]float64{"as it was given": 0.0049, "half way to another": 0.002, "which somebody changed": 0.02} {
		s = weighed(t, weight, "5Gi")
		s.mark()
		s.weigh("")
		got := s.stepNamed("osd-1-weight")
		require.NotNil(t, got, name)
		require.InDelta(t, 10.0/1024, got.SetWeight.To, 0)
		require.Equal(t, "the spec gives its device no weight any more: it is that of the size", got.Why)
		require.Equal(t, "true", s.says(fromSpec))
		s.Ceph.OSDs[1].Weight = 10.0 / 1024
		require.Nil(t, s.stepNamed("osd-1-weight"))
		require.Empty(t, s.says(fromSpec), "and nothing is left of it")
	}
}

func TestAChosenWeightStaysWhatElseHappens(t *testing.T) {
	chosen := func() *scene {
		s := weighed(t, 0.0049, "5Gi")
		s.mark()
		require.Empty(t, with(s.open(), "osd-1"))
		return s
	}
	t.Run("its device grows", func(t *testing.T) {
		s := weighed(t, 10.0/1024, "10Gi")
		s.mark()
		s.Ceph.OSDs[1].BytesTotal = 20 << 30
		require.Nil(t, s.stepNamed("osd-1-weight"))
		s.mark()
		s.weigh("")
		require.InDelta(t, 20.0/1024, s.stepNamed("osd-1-weight").SetWeight.To, 0, "it goes back to the size that it has now")
	})
	t.Run("the inventory does not show its device", func(t *testing.T) {
		s := chosen()
		s.Inventory["n1"].Status.Devices = s.Inventory["n1"].Status.Devices[:1]
		require.Nil(t, s.stepNamed("osd-1-weight"))
		require.Equal(t, "true", s.says(fromSpec))
	})
	t.Run("it is down", func(t *testing.T) {
		s := chosen()
		s.Ceph.OSDs[1].Up = false
		s.weigh("")
		require.Nil(t, s.stepNamed("osd-1-weight"))
		require.Equal(t, "true", s.says(fromSpec))
	})
	t.Run("it leaves, and is taken back", func(t *testing.T) {
		s := chosen()
		devices := s.Cluster.Spec.Storage.Nodes[0].Devices
		s.Cluster.Spec.Storage.Nodes[0].Devices = devices[:1]
		s.mark()
		require.Nil(t, s.stepNamed("osd-1-weight"))
		require.Equal(t, "true", s.says(fromSpec))
		require.NotNil(t, s.stepNamed("osd-1-drain"))
		s.Ceph.OSDs[1].In = false
		s.Cluster.Spec.Storage.Nodes[0].Devices = devices
		require.Nil(t, s.stepNamed("osd-1-weight"), "not before data is placed on it again")
		s.Ceph.OSDs[1].In = true
		require.Nil(t, s.stepNamed("osd-1-weight"))
	})
	t.Run("no daemon restarts for it", func(t *testing.T) {
		s := chosen()
		s.weigh("7Gi")
		require.Equal(t, []string{"osd-1-weight"}, s.open())
	})
}

func TestANewOSDStartsWithItsWeight(t *testing.T) {
	s := serving(t)
	addDevice(s)
	devices := s.Cluster.Spec.Storage.Nodes[0].Devices
	devices[2].Weight = "1.5Ti"
	target := desired(s.Observed, helper).Targets[2]
	require.Equal(t, "disk3", target.Device)
	require.InDelta(t, 1.5, target.Weight, 0)
	s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: 6, UUID: target.UUID, New: true})
	s.OSDKeys[target.UUID] = "key"
	s.settle()
	name := osd.DeploymentName(s.Cluster, 6)
	require.Equal(t, "1.50000", osd.FirstWeight(s.Deployments[name]))
	devices[2].Weight = "1Ti"
	s.settle()
	require.Equal(t, "1.50000", osd.FirstWeight(s.Deployments[name]), "what it was started with stays")
	require.Empty(t, osd.FirstWeight(s.Deployments["main-osd-0"]))

	s = serving(t)
	addDevice(s)
	s.Cluster.Spec.Storage.Nodes[0].Devices[2].Weight = "1.5Ti"
	f, err := foresee(s.Observed, helper)
	require.NoError(t, err)
	require.NotContains(t, f.names(), "osd-6-weight", "it has it from the start")
	require.InDelta(t, 1.5, f.changes[0].Add[0].Weight, 0)
}

func TestAWeightWaitsForRoomAndForReplicas(t *testing.T) {
	s := weighed(t, 10.0/1024, "20Gi")
	s.mark()
	s.Ceph.Status.BytesUsed = 20 << 30
	require.Empty(t, s.gates()["osd-1-weight"])
	s.Ceph.Status.BytesUsed = 40 << 30
	require.Contains(t, s.gates()["osd-1-weight"], "40.0 GiB are used, and they take 29.8 GiB", "osd.1 would be full when the others are half full")
	require.Equal(t, v1alpha1.ReasonNotSafeToChange, s.status().Blocker.Reason)

	s = weighed(t, 20.0/1024, "20Gi")
	s.mark()
	s.Ceph.Status.BytesUsed = 40 << 30
	s.weigh("")
	require.Empty(t, s.gates()["osd-1-weight"], "what makes room waits for none")
	s.Ceph.Status.PGs = map[string]int{"active+clean": 32, "active+undersized": 1}
	require.Contains(t, s.gates()["osd-1-weight"], "all PGs are active+clean (1 are active+undersized)")
}

func TestRoomEndsWithTheOSDThatIsFullFirst(t *testing.T) {
	osds := func(weights ...float64) (osds []ceph.OSD) {
		for _, w := range weights {
			osds = append(osds, ceph.OSD{Weight: w, BytesTotal: tib})
		}
		return osds
	}
	require.InDelta(t, 3*full*tib, room(osds(1, 1, 1)), 1)
	require.InDelta(t, 2.5*full*tib, room(osds(1, 1, .5)), 1)
	require.InDelta(t, 2*full*tib, room(osds(1, 1, 2)), 1)
	require.InDelta(t, 3*full*tib, room(osds(.5, .5, .5)), 1)
	require.InDelta(t, 1*full*tib, room([]ceph.OSD{{Weight: 1}, {}}), 1)
	require.Zero(t, room(nil))
}

func TestSeveralWeightsComeAtOnceAndTheirMovementIsOne(t *testing.T) {
	s := weighed(t, 10.0/1024, "5Gi")
	s.Cluster.Spec.Storage.Nodes[1].Devices[0].Weight = "5Gi"
	s.mark()
	require.ElementsMatch(t, []string{"osd-1-weight", "osd-2-weight"}, s.open())
	f, err := foresee(s.Observed, helper)
	require.NoError(t, err)
	require.Nil(t, f.Blocker)
	require.ElementsMatch(t, []string{"osd-1-weight", "osd-2-weight"}, f.changes[0].steps)
	require.Equal(t, map[int]float64{1: 5.0 / 1024, 2: 5.0 / 1024}, f.changes[0].Weights)
}
