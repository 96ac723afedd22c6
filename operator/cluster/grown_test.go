package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/osd"
)

// sized is a running cluster in which osd.1 was weighed for 10 GiB, and has a size and a weight now.
func sized(t *testing.T, gib int64, weight float64) *scene {
	s := running(t)
	known := &s.Ceph.OSDs[1]
	known.BytesTotal, known.Weight = 10<<30, 10.0/1024
	s.mark()
	known.BytesTotal, known.Weight = gib<<30, weight
	return s
}

func (s *scene) noted() string {
	name := osd.SecretName(s.Cluster, s.Ceph.OSDs[1].UUID)
	for _, secret := range desired(s.Observed, helper).OSDSecrets {
		if secret.Name == name {
			return secret.Annotations["cairn.storage/weighed-for-bytes"]
		}
	}
	return ""
}

func TestAnOSDThatHasGrownGetsItsWeight(t *testing.T) {
	const ten, twenty = "10737418240", "21474836480"
	for name, test := range map[string]struct {
		gib    int64
		weight float64
		due    bool
		noted  string
	}{
		"it is as it was":                        {10, 10.0 / 1024, false, ten},
		"its weight is rounded as Ceph does":     {10, 0.0098, false, ten},
		"it has grown":                           {20, 0.0098, true, ten},
		"it has grown, and has its weight":       {20, 0.0195, false, twenty},
		"it has grown, and a person chose":       {20, 0.005, false, twenty},
		"it has not grown, and a person chose":   {10, 0.005, false, ten},
		"a person took all data from it by hand": {20, 0, false, twenty},
	} {
		t.Run(name, func(t *testing.T) {
			s := sized(t, test.gib, test.weight)
			require.Equal(t, test.noted, s.noted())
			got := s.stepNamed("osd-1-weight")
			if !test.due {
				require.Nil(t, got)
				return
			}
			require.Equal(t, &SetWeight{ID: 1, UUID: s.Ceph.OSDs[1].UUID, From: 0.0098, To: 20.0 / 1024}, got.SetWeight)
			require.Equal(t, "raise the CRUSH weight of osd.1 (disk2 on node n1) from 0.0098 to 0.0195 TiB", got.What)
			require.Equal(t, v1alpha1.RiskMovesData, got.Risk)
			require.Empty(t, got.Gate)
		})
	}
}

func TestAWeightIsRaisedWhileAllIsWell(t *testing.T) {
	s := sized(t, 20, 0.0098)
	s.Ceph.Status.PGs = map[string]int{"active+clean": 32, "active+undersized": 1}
	require.Contains(t, s.gates()["osd-1-weight"], "all PGs are active+clean (1 are active+undersized)")
	s.Ceph.OSDs[1].Up = false
	require.Nil(t, s.stepNamed("osd-1-weight"))
}

func TestAWeightIsNotNotedBeforeTheSizeIsKnown(t *testing.T) {
	require.Empty(t, running(t).noted())
}
