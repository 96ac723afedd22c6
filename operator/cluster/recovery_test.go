package cluster_test

import (
	"encoding/json"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/kube"
)

// cutOff is a cluster of whose three nodes two do not run any more.
func cutOff(t *testing.T) *site {
	s := newSite(t)
	s.converge()
	s.look()
	s.lose("node2", "node3")
	return s
}

// burnt is one that has lost these nodes with their mons' stores.
func burnt(t *testing.T) *site {
	s := cutOff(t)
	s.LoseStores("node2")
	s.LoseStores("node3")
	return s
}

func (s *site) lose(nodes ...string) {
	for _, node := range nodes {
		s.Lose(node)
	}
	s.Step()
	s.looks(3)
	require.Empty(s.t, s.errors)
}

// recoverFrom asks for the rebuilding of the quorum as the blocker says.
func (s *site) recoverFrom(mon string, skip ...v1alpha1.NodeName) {
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery = asked(c, mon, skip...) })
}

func asked(c *v1alpha1.StorageCluster, mon string, skip ...v1alpha1.NodeName) *v1alpha1.MonRecovery {
	return &v1alpha1.MonRecovery{From: mon, LostSince: meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionQuorum).LastTransitionTime,
		Confirmation: "yes-rebuild-the-quorum-of-main-from-mon-" + mon, SkipNodes: skip}
}

// rebuilt looks until the rebuilding is done.
func (s *site) rebuilt() *v1alpha1.MonRecoveryStatus {
	s.t.Helper()
	for range looks {
		if record := s.recovery(); record != nil && record.Finished != nil {
			return record
		}
		s.look()
	}
	c := s.cluster()
	require.Failf(s.t, "never rebuilt", "plan %+v\nblocker %+v\nerrors %v", c.Status.Plan, c.Status.Blocker, s.errors)
	return nil
}

// recovery is what the StorageCluster says of it.
func (s *site) recovery() *v1alpha1.MonRecoveryStatus {
	text := s.cluster().Annotations[kube.AnnotationMonRecovery]
	if text == "" {
		return nil
	}
	record := &v1alpha1.MonRecoveryStatus{}
	require.NoError(s.t, json.Unmarshal([]byte(text), record))
	return record
}

// whole requires three mons of new names beside the one that was left, and all data.
func (s *site) whole(fsid string, osds map[string]string) {
	s.t.Helper()
	require.Equal(s.t, fsid, s.converge().Status.FSID)
	s.looks(2) // the last Secrets and budgets
	require.Equal(s.t, []string{"a", "d", "e"}, s.Quorum())
	require.Equal(s.t, osds, s.OSDs())
	require.Equal(s.t, []string{"main-mon-a", "main-mon-d", "main-mon-e"}, s.monServices())
	require.Equal(s.t, "e", s.cluster().Status.LastMon)
	require.Equal(s.t, "c", s.Secret("main-keys").Annotations[kube.AnnotationLastMon], "no restore gives a name again")
}

func (s *site) monServices() (names []string) {
	var services corev1.ServiceList
	require.NoError(s.t, s.Client.List(s.t.Context(), &services, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon"}))
	for _, service := range services.Items {
		names = append(names, service.Name)
	}
	slices.Sort(names)
	return names
}

func TestALostQuorumSaysWhichMonsAreMissingAndTheWaysOut(t *testing.T) {
	s := cutOff(t)
	c := s.cluster()
	since := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionQuorum).LastTransitionTime.UTC().Format(time.RFC3339)
	require.Equal(t, v1alpha1.ReasonQuorumLost, c.Status.Blocker.Reason)
	for _, words := range []string{"the mons have no quorum since " + since, "mon b (node node2 is not ready), mon c (node node3 is not ready)", "Bring back any 1 of them",
		`spec.mon.recovery to {from: a, lostSince: "` + since + `", confirmation: yes-rebuild-the-quorum-of-main-from-mon-a}`} {
		require.Contains(t, c.Status.Blocker.Message, words)
	}
	s.look()
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, slices.DeleteFunc(s.Writes()[writes:], func(write string) bool { return strings.HasPrefix(write, "patch status") }), "nothing is done by itself")
	require.Len(t, s.monServices(), 3)

	s.Return("node2")
	s.looks(5)
	require.Equal(t, v1alpha1.ReasonNodeLost, s.cluster().Status.Blocker.Reason, "one of them was enough")
}

func TestSinceWhenThereIsNoQuorumIsKnownWhateverTheCacheShows(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.look()
	cached := s.cluster()
	s.lose("node2", "node3")
	c := s.cluster()
	quorum := *meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionQuorum)
	require.Equal(t, metav1.ConditionFalse, quorum.Status)
	later := func() time.Time { return quorum.LastTransitionTime.Add(time.Minute) }
	r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test", Now: later}
	_, err := r.Reconcile(t.Context(), cached)
	require.NoError(t, err)
	require.Equal(t, quorum.LastTransitionTime, meta.FindStatusCondition(s.cluster().Status.Conditions, v1alpha1.ConditionQuorum).LastTransitionTime)
	require.Equal(t, c.Status.Blocker.Since, s.cluster().Status.Blocker.Since)
}

func TestAQuorumIsRebuiltFromTheMonThatIsLeft(t *testing.T) {
	s := burnt(t)
	fsid, osds := s.FSID(), s.OSDs()
	s.recoverFrom("a", "node2", "node3")
	record := s.rebuilt()
	require.Equal(t, "a", record.From)
	require.Equal(t, "node1", record.Node)
	require.Equal(t, []string{"b", "c"}, record.GaveUp)
	require.Equal(t, []string{"main-mon-a"}, s.monServices())
	s.looks(3)
	require.Equal(t, []string{"a"}, s.Quorum())
	require.Equal(t, record, s.cluster().Status.MonRecovery)
	s.Return("node2")
	s.Return("node3")
	s.whole(fsid, osds)
	require.Empty(t, s.errors)

	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
}

// beginRecovery is the verb that the sweep disturbs.
func beginRecovery(t *testing.T) (*site, func()) {
	s := burnt(t)
	fsid, osds := s.FSID(), s.OSDs()
	return s, func() {
		s.recoverFrom("a", "node2", "node3")
		s.looksUntil("the quorum is rebuilt", func() bool { return s.recovery() != nil && s.recovery().Finished != nil })
		s.Return("node2")
		s.Return("node3")
		s.looksUntil("other mons have joined", func() bool { return s.quorate() == "ade of ade" })
		s.whole(fsid, osds)
	}
}

func TestKeptDataOfWhichOneMonIsLeftIsTakenUp(t *testing.T) {
	k := newKept(t)
	k.LoseStores("node2")
	k.LoseStores("node3")
	k.Cluster(k.name)
	k.looks(5)
	blocker := k.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonQuorumLost, blocker.Reason)
	require.Contains(t, blocker.Message, "mon b (pod main-mon-b")
	k.recoverFrom("a")
	k.rebuilt()
	k.adopted()
	require.Equal(t, []string{"a", "d", "e"}, k.Quorum())
}

func TestARebuildingIsRefusedWithTheReason(t *testing.T) {
	s := cutOff(t)
	for name, test := range map[string]struct {
		change func(*v1alpha1.MonRecovery)
		says   string
	}{
		"for another loss": {func(r *v1alpha1.MonRecovery) { r.LostSince = metav1.NewTime(r.LostSince.Add(-time.Hour)) }, "was another loss"},
		"of no mon that there is": {func(r *v1alpha1.MonRecovery) {
			r.From, r.Confirmation = "x", "yes-rebuild-the-quorum-of-main-from-mon-x"
		}, "spec.mon.recovery.from names a mon that there is: a, b, c"},
	} {
		t.Run(name, func(t *testing.T) {
			s.edit(func(c *v1alpha1.StorageCluster) {
				c.Spec.Mon.Recovery = asked(c, "a", "node2", "node3")
				test.change(c.Spec.Mon.Recovery)
			})
			s.looks(4)
			c := s.cluster()
			require.Equal(t, v1alpha1.ReasonRecoveryRefused, c.Status.Blocker.Reason)
			require.Contains(t, c.Status.Blocker.Message, test.says)
			require.Equal(t, "recovery", c.Status.Plan[0].Name)
			require.Equal(t, v1alpha1.RiskDestroys, c.Status.Plan[0].Risk)
			require.Nil(t, s.recovery())
		})
	}
	t.Run("while most mons may form a quorum", func(t *testing.T) {
		s.recoverFrom("a", "node2", "node3")
		s.Ceph.FailWith(nil)
		var node corev1.Node
		require.NoError(t, s.Client.Get(t.Context(), client.ObjectKey{Name: "node2"}, &node))
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		require.NoError(t, s.Client.Status().Update(t.Context(), &node)) // its mon has yet to start
		s.looks(3)
		c := s.cluster()
		require.Equal(t, v1alpha1.ReasonRecoveryRefused, c.Status.Blocker.Reason)
		require.Contains(t, c.Status.Blocker.Message, "2 of 3 run or start")
		require.Nil(t, s.recovery())
	})
	t.Run("once there is a quorum it says and does nothing", func(t *testing.T) {
		s.Return("node2")
		s.Return("node3")
		s.converge()
		s.look()
		require.Equal(t, []string{"a", "b", "c"}, s.Quorum())
		require.Nil(t, s.recovery())
	})
	t.Run("and the next loss is another", func(t *testing.T) {
		before := s.cluster().Spec.Mon.Recovery.LostSince
		s.edit(func(c *v1alpha1.StorageCluster) {
			c.Spec.Mon.Recovery.LostSince = metav1.NewTime(before.Add(-time.Second))
		}) // losses are told apart by the second
		s.lose("node2", "node3")
		require.Equal(t, v1alpha1.ReasonRecoveryRefused, s.cluster().Status.Blocker.Reason)
		require.Nil(t, s.recovery())
	})
}

// What was decided without a mon is known to the OSDs, and not to it.
func TestAQuorumIsNotRebuiltFromAMonThatWasOutBefore(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.look()
	s.lose("node3")
	s.looks(2)
	s.lose("node1", "node2")
	s.Return("node3")
	s.looks(3)
	message := s.cluster().Status.Blocker.Message
	require.Contains(t, message, "mon c was out of quorum already, since ")
	require.Contains(t, message, "spec.mon.recovery to {from: osds")
	s.recoverFrom("c", "node1", "node2")
	s.looks(3)
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonRecoveryRefused, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "mon c was out since ")
	require.Contains(t, c.Status.Blocker.Message, "yes-rebuild-the-quorum-of-main-from-mon-c-though-it-was-out")
	require.Len(t, s.monServices(), 3)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery.Confirmation += "-though-it-was-out" })
	require.Equal(t, "c", s.rebuilt().From)
}

func TestARebuildingWaitsForApproval(t *testing.T) {
	s := burnt(t)
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Approval = v1alpha1.ApprovalManual
		c.Spec.Mon.Recovery = asked(c, "a", "node2", "node3")
	})
	s.looks(4)
	require.Equal(t, v1alpha1.ReasonNeedsApproval, s.cluster().Status.Blocker.Reason)
	require.Nil(t, s.recovery())
	s.edit(func(c *v1alpha1.StorageCluster) { v1alpha1.Approve(c, "recovery") })
	s.rebuilt()
}

func TestARebuildingWaitsUntilEveryOtherMonHasStopped(t *testing.T) {
	s := burnt(t)
	s.recoverFrom("a", "node2")
	s.looks(8)
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonNodeGone, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "mon-c")
	require.Contains(t, c.Status.Blocker.Message, "spec.mon.recovery.skipNodes")
	require.Len(t, s.monServices(), 3, "no mon is given up before")
	require.Empty(t, s.jobNames())

	t.Run("a node that is back is waited for, skipped or not", func(t *testing.T) {
		s.Return("node3")
		s.rebuilt()
		require.Equal(t, []string{"main-mon-a"}, s.monServices())
	})
}

func (s *site) jobNames() (names []string) {
	var jobs batchv1.JobList
	require.NoError(s.t, s.Client.List(s.t.Context(), &jobs, client.InNamespace(s.Namespace)))
	for _, job := range jobs.Items {
		names = append(names, job.Name)
	}
	return names
}

func TestARebuildingCanBeTakenBackUntilMonsAreGivenUp(t *testing.T) {
	s := cutOff(t)
	s.recoverFrom("a", "node2")
	s.looks(6)
	require.NotNil(t, s.recovery())
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery = nil })
	s.looks(2)
	require.Nil(t, s.recovery())
	s.Return("node2")
	s.Return("node3")
	s.converge()
	require.Contains(t, s.Quorum(), "a")
	require.Len(t, s.monServices(), 3)
}

func TestARebuildingWhoseMonsAreGivenUpGoesOnWhateverTheSpecSays(t *testing.T) {
	s := burnt(t)
	s.recoverFrom("a", "node2", "node3")
	for len(s.monServices()) > 1 {
		s.look()
	}
	require.Nil(t, s.recovery().Finished)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery = nil })
	s.looks(5)
	require.Equal(t, v1alpha1.ReasonNodeGone, s.cluster().Status.Blocker.Reason, "no node is skipped any more")
	s.Return("node2")
	s.Return("node3")
	s.rebuilt()
	s.looks(3)
	require.Contains(t, s.Quorum(), "a")
	require.NotContains(t, s.Ceph.Mons(), "b")
	require.NotContains(t, s.Ceph.Mons(), "c")
}

func TestAMonWithoutItsStoreTakesNothingWithIt(t *testing.T) {
	k := newKept(t)
	k.LoseStores("node2")
	k.LoseStores("node3")
	k.Cluster(k.name)
	k.looks(5)
	k.recoverFrom("b")
	k.looks(10)
	require.Contains(t, k.cluster().Status.Plan[0].What, "wait for Job main-mon-keep-")
	require.Len(t, k.monServices(), 3, "no mon is given up before the store is known to be good")
	k.recoverFrom("a")
	k.rebuilt()
	k.adopted()
}

func TestADeletedClusterIsRebuiltFirst(t *testing.T) {
	s := burnt(t)
	s.recoverFrom("a", "node2")
	s.looks(5)
	require.Nil(t, s.recovery().Finished)
	s.delete()
	s.looks(3)
	require.False(t, s.gone())
	s.Return("node3")
	s.looksUntilGone()
	require.Equal(t, []string{"main-mon-a"}, s.monServices())
}

func TestTwoQuorumsAreSeen(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.look()
	var old appsv1.DeploymentList
	require.NoError(t, s.Client.List(t.Context(), &old, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon"}))
	s.lose("node2", "node3")
	s.recoverFrom("a", "node2", "node3") // but their stores are well
	s.rebuilt()
	s.looks(2)
	s.Return("node2")
	s.Return("node3")
	s.Step()
	require.Empty(t, s.Violations)
	s.Planted = true
	for _, d := range old.Items {
		if name := d.Labels[kube.LabelInstance]; name != "a" {
			d.ResourceVersion, d.UID = "", ""
			require.NoError(t, s.Client.Create(t.Context(), &d))
		}
	}
	s.Step()
	require.Contains(t, strings.Join(s.Violations, "\n"), "two quorums at once: mons [a] of [a], and [b c] of [a b c]")
}

func TestARebuildingIsForeseen(t *testing.T) {
	s := burnt(t)
	c := s.cluster()
	c.Spec.Mon.Recovery = asked(c, "a", "node2", "node3")
	r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
	writes := len(s.Writes())
	foreseen, err := r.Foresee(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, s.Writes(), writes)
	var steps []string
	for _, step := range foreseen.Steps {
		if strings.HasPrefix(step.Name, "recovery") {
			steps = append(steps, fmt.Sprintf("%s %s", step.Name, step.Risk))
		}
	}
	require.Equal(t, []string{"recovery Destroys", "recovery-keep None", "recovery-forget Destroys", "recovery-rebuild None", "recovery-finish None"}, steps)
	require.Contains(t, strings.Join(foreseen.Assumes, " "), "once mon a answers")
}
