package cluster

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// unrecord deletes the Services of mons.
func (s *scene) unrecord(names ...string) {
	for _, name := range names {
		delete(s.Services, "main-mon-"+name)
		s.Mons = withoutMon(s.Mons, name)
	}
}

// noQuorum has the mons have none, and these nodes not ready.
func (s *scene) noQuorum(nodes ...string) {
	s.Ceph = nil
	meta.SetStatusCondition(&s.Cluster.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionQuorum, Status: metav1.ConditionFalse, Reason: v1alpha1.ReasonNoQuorum, LastTransitionTime: metav1.NewTime(moment)})
	for _, name := range nodes {
		s.node(name).Status.Conditions[0].Status = corev1.ConditionUnknown
	}
}

// recoverFrom asks for a rebuilding of the quorum from a mon, as the blocker says.
func (s *scene) recoverFrom(name string) {
	s.Cluster.Spec.Mon.Recovery = &v1alpha1.MonRecovery{From: name, LostSince: metav1.NewTime(moment), Confirmation: s.recoveryConfirmation(name)}
}

func TestAMonWithoutAServiceGoesBeforeAnotherComes(t *testing.T) {
	s := running(t)
	s.unrecord("c")
	s.Ceph.Status.Quorum = []string{"a", "b"}
	require.Contains(t, s.open(), "mon-c-remove")
	require.NotContains(t, s.open(), "main-mon-d", "of four mons three would be needed")
	s.Cluster.Status.LastMon = s.status().LastMon
	s.Ceph.Status.Mons = []string{"a", "b"}
	require.Contains(t, s.open(), "mon-c-delete")
	require.NotContains(t, s.open(), "main-mon-d")
	delete(s.Deployments, "main-mon-c")
	require.Contains(t, s.open(), "main-mon-d")
}

func TestAMonWithoutAServiceStaysWhileItIsNeeded(t *testing.T) {
	s := running(t)
	s.unrecord("b", "c")
	s.Ceph.Status.Mons, s.Ceph.Status.Quorum = []string{"a", "c"}, []string{"a", "c"} // b went
	delete(s.Deployments, "main-mon-b")
	require.NotContains(t, s.open(), "mon-c-remove")
	require.Contains(t, s.open(), "main-mon-d")
	require.Len(t, desired(s.Observed, helper).Mons, 2)
	require.Equal(t, "n2", desired(s.Observed, helper).Mons[1].Node, "not beside mon c")

	s = running(t)
	s.unrecord("a", "b", "c")
	require.Empty(t, with(s.open(), "mon-"), "their Services have to come back")
	require.Equal(t, v1alpha1.ReasonMonsMissing, s.status().Blocker.Reason)
}

func TestAMonWithoutAServiceCountsForTheMajority(t *testing.T) {
	s := running(t)
	s.unrecord("c")
	s.noQuorum("n2")
	blocker := s.status().Blocker
	require.Equal(t, v1alpha1.ReasonQuorumLost, blocker.Reason)
	require.Contains(t, blocker.Message, "mon b (node n2 is not ready), mon c (its Service is gone, and with it its address). Bring back any 1 of them")
	s.recoverFrom("a")
	require.Equal(t, []string{"recovery"}, s.open())
	require.Equal(t, "c", s.status().LastMon)
}

// Of kept data only some Services were restored.
func TestMonsOfKeptDataWithoutServicesCountAsLost(t *testing.T) {
	s := running(t)
	s.Cluster.Status.FSID = ""
	for _, name := range []string{"b", "c"} {
		s.unrecord(name)
		delete(s.Deployments, "main-mon-"+name)
	}
	s.noQuorum()
	s.settle()
	blocker := s.status().Blocker
	require.Equal(t, v1alpha1.ReasonQuorumLost, blocker.Reason)
	require.Contains(t, blocker.Message, "Missing are 2 of 3 by spec.mon.count, whose Services are not there: restore them (main-mon-…) from a backup")
	require.Contains(t, blocker.Message, "Bring back any 1 of them")
	s.recoverFrom("a")
	require.Contains(t, s.open(), "recovery")
}

// While the spec asks for more mons than there are yet, those that there are decide.
func TestMonsThatAreYetToComeDoNotCount(t *testing.T) {
	s := running(t)
	s.Cluster.Spec.Mon.Count = 5
	s.noQuorum("n3")
	require.NotEqual(t, v1alpha1.ReasonQuorumLost, s.status().Blocker.Reason)
	s.recoverFrom("a")
	require.Contains(t, s.gates()["recovery"], "2 of 3 run or start")
}
