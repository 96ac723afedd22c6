package cluster_test

import (
	"math"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// giveWeight has the spec give the second disk of node1 a weight; empty gives it none.
func giveWeight(weight string) func(*v1alpha1.StorageCluster) {
	return func(c *v1alpha1.StorageCluster) { c.Spec.Storage.Nodes[0].Devices[1].Weight = weight }
}

func (s *site) hasWeight(gib float64) func() bool {
	return func() bool { return s.known() != nil && math.Abs(s.known().Weight*1024-gib) < 0.1 }
}

// An OSD gets a weight while it runs, goes back to that of its size, and a new one starts with its own.
func beginWeights(t *testing.T) (*site, func()) {
	s := fourOSDs(t)
	return s, func() {
		before := *s.known()
		s.edit(giveWeight("5Gi"))
		s.looksUntil("it has half the weight", s.hasWeight(5))
		s.edit(giveWeight(""))
		s.looksUntil("it has that of its size", s.hasWeight(10))
		s.edit(func(c *v1alpha1.StorageCluster) {
			c.Spec.Storage.Nodes[1].Devices = append(c.Spec.Storage.Nodes[1].Devices, v1alpha1.StorageDevice{Name: "disk2", Weight: "7Gi"})
		})
		s.looksUntil("the new one is used", func() bool { return s.OSDs()["node2/disk2"] != "" })
		require.Equal(t, "5/5", s.converge().Status.OSDs.Summary)
		require.Equal(t, before, *s.known())
		for _, o := range s.osds() {
			if o.UUID == s.OSDs()["node2/disk2"] {
				require.InDelta(t, 7, o.Weight*1024, 0.1)
			}
		}
	}
}

func TestAWeightIsGivenOnceAndTakenBackOnce(t *testing.T) {
	s, act := beginWeights(t)
	before := len(s.Writes())
	act()
	require.Len(t, with(s.Writes()[before:], "ceph SetOSDWeight"), 2, "the new OSD starts with its weight")
	require.Empty(t, with(s.Writes()[before:], "apply Deployment main-osd-3"), "no daemon restarts")
}

func TestAWeightIsForeseen(t *testing.T) {
	s := fourOSDs(t)
	s.happensAsForeseen(giveWeight("5Gi"))
	s.events = nil
	s.happensAsForeseen(giveWeight(""))
	require.Len(t, with(s.Writes(), "ceph SetOSDWeight"), 2)
}

// A device that replaces another has that one's weight, and may be given another.
func TestAReplacedOSDKeepsItsWeight(t *testing.T) {
	for name, weight := range map[string]string{"as the old one had it": "12Gi", "as nothing is said of it": "", "another": "4Gi"} {
		t.Run(name, func(t *testing.T) {
			s := fourOSDs(t)
			old := "12Gi"
			if weight == "" {
				old = "6Gi" // a place for more than the device's size wants that said
			}
			s.edit(giveWeight(old))
			s.converge()
			s.looks(3)
			before := *s.known()
			s.Plug("node1", "disk3")
			s.Fail("node1", "disk2")
			s.Step()
			since := len(s.Writes())
			s.edit(func(c *v1alpha1.StorageCluster) {
				c.Spec.Storage.Nodes[0].Devices[1] = v1alpha1.StorageDevice{Name: "disk3", Replaces: "disk2", Weight: weight}
			})
			if name == "another" {
				s.looks(10)
				require.Contains(t, s.cluster().Status.Blocker.Message, "it has the size for that place")
				return
			}
			require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
			s.looks(3)
			require.NoError(t, s.takenOver(before, since))
			require.Empty(t, with(s.Writes()[since:], "ceph SetOSDWeight"))
		})
	}
}
