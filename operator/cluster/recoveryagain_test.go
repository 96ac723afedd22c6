package cluster

import (
	"fmt"
	"slices"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// rebuilding is a cluster without a quorum, which is being rebuilt from mon a.
func rebuilding(t *testing.T, skip ...v1alpha1.NodeName) *scene {
	s := running(t)
	s.noQuorum("n2", "n3")
	s.recoverFrom("a")
	s.Cluster.Spec.Mon.Recovery.SkipNodes = skip
	s.record(s.newRecovery())
	return s
}

func (s *scene) record(record *v1alpha1.MonRecoveryStatus) {
	require.NoError(s.t, setRecovery(s.Cluster, record))
}

// forgotten has the Services of the other mons be deleted, and no mon run.
func (s *scene) forgotten() {
	s.stopped()
	s.unrecord("b", "c")
}

func (s *scene) stopped() {
	s.Pods = slices.DeleteFunc(s.Pods, func(pod corev1.Pod) bool { return pod.Labels[kube.LabelComponent] == mon.Component })
	for name, d := range s.Deployments {
		if d.Labels[kube.LabelComponent] == mon.Component {
			delete(s.Deployments, name)
		}
	}
}

func (s *scene) fromOSDs(lost metav1.Time, skip ...v1alpha1.NodeName) {
	s.Cluster.Spec.Mon.Recovery = &v1alpha1.MonRecovery{From: v1alpha1.FromOSDs, LostSince: lost, Confirmation: s.recoveryConfirmation(v1alpha1.FromOSDs), SkipNodes: skip}
}

// The mon from which the quorum was rebuilt is lost before it has formed one.
func TestAQuorumThatWasRebuiltAndDoesNotFormIsRebuiltAgain(t *testing.T) {
	s := rebuilding(t, "n2", "n3")
	s.forgotten()
	record := recovered(s.Cluster)
	s.Now = moment.Add(time.Minute)
	record.Finished = s.finished(record)
	s.record(record)
	s.settle()
	s.noQuorum("n1")
	s.node("n2").Status.Conditions[0].Status = corev1.ConditionTrue
	blocker := s.status().Blocker
	require.Equal(t, v1alpha1.ReasonQuorumLost, blocker.Reason)
	require.Contains(t, blocker.Message, `{from: osds, lostSince: "2026-01-02T03:05:05Z"`)
	require.Contains(t, blocker.Message, "(the quorum was rebuilt from mon a at 2026-01-02T03:05:05Z, and mon a has not formed it since")
	s.fromOSDs(*record.Finished, "n1", "n3")
	require.True(t, mayRecover(s.Cluster))
	require.Equal(t, []string{"recovery"}, s.open())

	again := s.newRecovery()
	s.Now = s.Now.Add(-time.Hour) // its clock was set
	again.Finished = s.finished(again)
	s.record(again)
	require.True(t, again.Finished.Equal(new(s.lostSince())), "and a third time")
	require.True(t, record.Finished.Before(again.Finished))

	s.Ceph, s.Now = &CephState{Status: &ceph.Status{}}, moment
	require.True(t, new(s.lostSince()).IsZero())
}

// The node with the store that is worked on is lost once there is no way back.
func TestARebuildingThatCannotGoOnBeginsAnewFromTheOSDs(t *testing.T) {
	s := rebuilding(t, "n2", "n3")
	s.forgotten()
	s.noQuorum("n1")
	for _, name := range []string{"n2", "n3"} {
		s.node(name).Status.Conditions[0].Status = corev1.ConditionTrue
	}
	blocker := s.status().Blocker
	require.Equal(t, v1alpha1.ReasonNodeGone, blocker.Reason)
	require.Contains(t, blocker.Message, `Bring it back; or, when it is gone for ever, rebuild the quorum from the OSDs: set spec.mon.recovery to {from: osds, lostSince: "2026-01-02T03:04:05Z", confirmation: yes-rebuild-the-quorum-of-main-from-osds}, and name the node in its skipNodes too`)

	s.fromOSDs(metav1.NewTime(moment))
	require.Equal(t, v1alpha1.ReasonNodeGone, s.status().Blocker.Reason, "the node is not given up")
	s.fromOSDs(metav1.NewTime(moment), "n1")
	s.Cluster.Spec.Mon.Recovery.Confirmation = ""
	require.Equal(t, v1alpha1.ReasonRecoveryRefused, s.status().Blocker.Reason)
	require.Contains(t, s.status().Blocker.Message, "spec.mon.recovery.confirmation is yes-")
	s.fromOSDs(metav1.NewTime(moment), "n1")
	require.Equal(t, []string{"recovery"}, s.open())
	require.Contains(t, s.plan()[0].What, "leave what node n1 has, and rebuild the quorum from the OSDs, with all daemons stopped, and give up the stores of mon a; and mon a, osd.")
	require.Equal(t, v1alpha1.RiskDestroys, s.plan()[0].Risk)

	next := s.newRecovery()
	require.Equal(t, []string{"b", "c"}, next.GaveUp, "their names are given up for good")
	s.record(next)
	require.NotEqual(t, "recovery", s.plan()[0].Name)
	require.Contains(t, fmt.Sprint(s.gates()), "recovery-collect-n2")
	require.False(t, s.takenBack(next), "there is no way back still")
}

// A node that is deleted from Kubernetes takes its pods along, and may only be cut off.
func TestAMonWhoseNodeAndPodAreGoneIsAskedFor(t *testing.T) {
	s := rebuilding(t, "n2")
	s.stopped()
	s.Nodes = s.Nodes[:2]
	require.Empty(t, s.open(), "nothing is worked on")
	blocker := s.status().Blocker
	require.Equal(t, v1alpha1.ReasonNodeGone, blocker.Reason)
	require.Contains(t, blocker.Message, "'wait for mon-c on node n3 to stop' waits until node n3 is back: Kubernetes does not know it any more. Bring it back; or, when it is gone for ever, add it to spec.mon.recovery.skipNodes")
	s.Cluster.Spec.Mon.Recovery.SkipNodes = []v1alpha1.NodeName{"n2", "n3"}
	require.Equal(t, []string{"recovery-keep"}, s.open())
}

func TestMonsOfKeptDataThatRefuseTheKeyAreNamed(t *testing.T) {
	s := running(t)
	s.Cluster.Status.FSID = ""
	s.Ceph, s.CephError = nil, ceph.Errorf(ceph.Forbidden, "connect", "permission denied")
	require.Equal(t, v1alpha1.ReasonCephUnreachable, s.status().Blocker.Reason)
	require.Contains(t, s.status().Blocker.Message, "Restore the Secret with the key that the mons have")
}
