package cluster_test

import (
	"fmt"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

// begin is when the simulated clock starts.
var begin = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// clocked is a converged cluster whose operator's clock stands still until pass.
func clocked(t *testing.T, change ...func(*v1alpha1.StorageCluster)) *site {
	s := newSite(t, change...)
	now := begin
	s.now = func() time.Time { return now }
	s.pass = func(d time.Duration) { now = now.Add(d) }
	s.converge()
	s.look()
	return s
}

// quorate are the mons in quorum, and those that there are in the monmap.
func (s *site) quorate() string {
	return fmt.Sprintf("%v of %v", strings.Join(s.Quorum(), ""), strings.Join(s.Ceph.Mons(), ""))
}

func (s *site) looks(n int) {
	for range n {
		s.look()
	}
}

// nineMinutesWithoutNode3 is a cluster with a node to spare, short of a failover.
func nineMinutesWithoutNode3(t *testing.T) *site {
	s := clocked(t)
	s.Spare("node4")
	s.Lose("node3")
	s.looks(5)
	s.pass(9 * time.Minute)
	return s
}

func TestALostMonIsReplacedOnAnotherNodeAfterATime(t *testing.T) {
	s := nineMinutesWithoutNode3(t)
	s.looks(5)
	require.Equal(t, "ab of abc", s.quorate(), "it is waited for first")
	plan := s.cluster().Status.Plan
	require.Contains(t, fmt.Sprint(plan), "wait for mon [c] to join the quorum; without it another node gets a mon at 03:14:05 UTC")

	s.Restart() // the time goes on where it was
	s.pass(time.Minute)
	s.looksUntil("another mon is there", func() bool { return s.quorate() == "abd of abd" })
	s.looks(5)
	require.Equal(t, "3/3", s.cluster().Status.Mons.Summary)
	require.Equal(t, "d", s.cluster().Status.LastMon)
	require.Empty(t, s.errors)
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
}

func TestAMonThatComesBackInTimeStays(t *testing.T) {
	s := nineMinutesWithoutNode3(t)
	s.looks(3)
	s.Return("node3")
	s.looks(5)
	s.pass(time.Hour)
	s.looks(10)
	require.Equal(t, "abc of abc", s.quorate())
	s.Lose("node3")
	s.looks(3)
	s.pass(9 * time.Minute)
	s.looks(3)
	require.Equal(t, "ab of abc", s.quorate(), "the time begins anew")
}

func TestALostMonWithoutANodeToTakeItsPlaceIsNamed(t *testing.T) {
	s := clocked(t)
	s.Lose("node3")
	s.looks(3)
	s.pass(time.Hour)
	s.looks(10)
	require.Equal(t, "ab of abc", s.quorate())
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonMonLost, blocker.Reason)
	require.Contains(t, blocker.Message, "mon c on node node3 is out of quorum since 2026-01-02T03:04:05Z, and no other ready node")
	require.Contains(t, blocker.Message, "Bring the node back, or add one")
}

func TestMonsAreTakenAwayAndAddedByCount(t *testing.T) {
	s := clocked(t)
	count := func(n int32) { s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = n }) }
	count(1)
	s.converge()
	require.Equal(t, "a of a", s.quorate())
	count(3)
	s.converge()
	require.Equal(t, "ade of ade", s.quorate(), "no name is given twice")
	s.Spare("node4")
	s.Spare("node5")
	count(5)
	s.converge()
	require.Equal(t, "adefg of adefg", s.quorate())
	count(3)
	s.converge()
	require.Equal(t, "ade of ade", s.quorate())
}

// anew is how often mons began anew for their client IDs.
func (s *site) anew() (n int) {
	for _, write := range s.Writes() {
		if strings.HasPrefix(write, "delete *v1.Pod main-mon-") {
			n++
		}
	}
	return n
}

func TestMonsBeginAnewOnceForTheirClientIDs(t *testing.T) {
	s := clocked(t)
	for i, count := range []int32{1, 3, 1} {
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = count })
		s.converge()
		require.Equal(t, 2, s.anew(), "mons a and b, before c goes; not in step %d", i)
	}
}

// A mon that was away goes on from the maximum that it knows: where another one began meanwhile.
func TestAMonThatComesBackDuringItsFailoverGivesNoClientIDTwice(t *testing.T) {
	s := nineMinutesWithoutNode3(t)
	s.pass(time.Minute)
	s.looksUntil("mon a gives IDs of its own", func() bool { return s.service("main-mon-a").Annotations[kube.AnnotationApart] != "" })
	s.Return("node3")
	s.looks(5)
	require.Equal(t, "abc of abc", s.quorate())
	require.Empty(t, s.service("main-mon-a").Annotations[kube.AnnotationApart], "mon c gives IDs there, too")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = 1 })
	s.converge()
	require.Equal(t, "a of a", s.quorate())
}

func TestALostMonWhoseServiceIsDeletedIsReplacedAllTheSame(t *testing.T) {
	s := nineMinutesWithoutNode3(t)
	require.NoError(t, s.Client.Delete(t.Context(), s.service("main-mon-c")))
	s.looksUntil("another mon is there", func() bool { return s.quorate() == "abd of abd" })
	require.Equal(t, 2, s.anew())
}

func TestAMonOnACordonedNodeIsNotRestarted(t *testing.T) {
	s := clocked(t)
	s.Cordon("node1")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = 1 })
	s.looks(10)
	require.Equal(t, "abc of abc", s.quorate())
	require.Contains(t, fmt.Sprint(s.cluster().Status.Plan), "node node1 takes a pod of mon a: it is not ready, cordoned or tainted")
	require.Zero(t, s.anew())
	s.Uncordon("node1")
	s.converge()
	require.Equal(t, "a of a", s.quorate())
}

// fiveMonsAfterAPowerFailure began together, on node1 to node5, and two of their nodes are lost.
func fiveMonsAfterAPowerFailure(t *testing.T) *site {
	s := clocked(t)
	s.Spare("node4")
	s.Spare("node5")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = 5 })
	s.converge()
	nodes := []string{"node1", "node2", "node3", "node4", "node5"}
	for _, node := range nodes {
		s.Lose(node)
	}
	s.looks(3)
	for _, node := range nodes {
		s.Return(node)
	}
	s.converge()
	require.Equal(t, "abcde of abcde", s.quorate())
	s.Lose("node4")
	s.Lose("node5")
	s.looks(3)
	s.pass(10 * time.Minute)
	return s
}

func TestTwoLostMonsOfFiveAreReplaced(t *testing.T) {
	s := fiveMonsAfterAPowerFailure(t)
	s.Spare("node6")
	s.Spare("node7")
	s.looksUntil("both are replaced", func() bool { return s.quorate() == "abcfg of abcfg" })
}

func TestOneOfTwoLostMonsIsReplacedWhereNodesAreFew(t *testing.T) {
	s := fiveMonsAfterAPowerFailure(t)
	s.Spare("node6")
	s.looksUntil("one is replaced", func() bool { return s.quorate() == "abcf of abcdf" })
}

// enforce a level of Pod Security: "restricted" lets no daemon in.
func (s *site) enforce(level string) {
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}}
	patch := fmt.Sprintf(`{"metadata":{"labels":{"pod-security.kubernetes.io/enforce":%q}}}`, level)
	require.NoError(s.t, s.Client.Patch(s.t.Context(), namespace, client.RawPatch(types.MergePatchType, []byte(patch))))
}

// A mon's pod is deleted only where another would be let in.
func TestAMonWhosePodWouldBeRefusedIsNotRestarted(t *testing.T) {
	s := clocked(t)
	s.enforce("restricted")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = 1 })
	s.looks(10)
	require.Equal(t, "abc of abc", s.quorate())
	require.Contains(t, s.cluster().Status.Blocker.Message, "the pod of mon a would not be made anew")
	require.Zero(t, s.anew())
	s.enforce("privileged")
	s.looksUntil("the others are gone", func() bool { return s.quorate() == "a of a" })
}

func TestWhatHoldsAFailoverUpIsSaidOfTheNodeThatIsLost(t *testing.T) {
	for name, hindrance := range map[string]struct {
		begins, ends func(*site)
		says         string
	}{
		"what is waited for": {func(s *site) { s.Cordon("node1") }, func(s *site) { s.Uncordon("node1") },
			"no mon gave before' waits until node node1 takes a pod of mon a"},
		"what was tried in vain": {func(s *site) { s.enforce("restricted") }, func(s *site) { s.enforce("privileged") },
			"the pod of mon a would not be made anew"},
	} {
		t.Run(name, func(t *testing.T) {
			s := nineMinutesWithoutNode3(t)
			hindrance.begins(s)
			s.pass(time.Minute)
			s.looks(10)
			require.Equal(t, "ab of abc", s.quorate())
			blocker := s.cluster().Status.Blocker
			require.Equal(t, v1alpha1.ReasonNodeLost, blocker.Reason)
			require.Contains(t, blocker.Message, "node3")
			require.Contains(t, blocker.Message, hindrance.says)
			hindrance.ends(s)
			s.looksUntil("another mon is there", func() bool { return s.quorate() == "abd of abd" })
		})
	}
}

func TestAMonWhoseStoreIsGoneIsReplacedUnderAnotherName(t *testing.T) {
	s := clocked(t)
	s.LoseStores("node2")
	s.looks(5)
	require.Equal(t, "ac of abc", s.quorate(), "it does not begin anew")
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonPodFailing, blocker.Reason)
	require.Contains(t, blocker.Message, "mon-b")
	s.pass(10 * time.Minute)
	s.looksUntil("the disk that is there now has another mon", func() bool { return s.quorate() == "acd of acd" })
}

// Two that begin anew while the third is away would be a majority that knows nothing.
func TestTwoMonsWithoutTheirStoresFoundNothing(t *testing.T) {
	s := clocked(t)
	fsid, osds := s.FSID(), s.OSDs()
	s.Lose("node3")
	s.looks(3)
	s.LoseStores("node1")
	s.LoseStores("node2")
	s.looks(10)
	s.pass(time.Hour)
	s.looks(10)
	require.Empty(t, s.Quorum())
	s.Return("node3")
	s.looks(5)
	require.Equal(t, []string{"c"}, s.Quorum())
	require.Equal(t, v1alpha1.ReasonQuorumLost, s.cluster().Status.Blocker.Reason)
	s.recoverFrom("c")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery.Confirmation += "-though-it-was-out" })
	s.rebuilt()
	s.looksUntil("other mons have joined", func() bool { return s.quorate() == "cde of cde" })
	require.Equal(t, fsid, s.converge().Status.FSID)
	require.Equal(t, osds, s.OSDs())
}

func TestAMonWhoseServiceIsDeletedIsReplaced(t *testing.T) {
	s := clocked(t)
	remove := func(name string) { require.NoError(t, s.Client.Delete(t.Context(), s.service("main-mon-"+name))) }
	remove("c")
	s.looksUntil("another mon is there", func() bool { return s.quorate() == "abd of abd" })
	s.converge()
	require.NotContains(t, s.generations(), "mon-c")

	remove("b")
	remove("d")
	s.reconcile()
	s.looksUntil("both are replaced", func() bool { return s.quorate() == "aef of aef" })
	s.converge()
	require.Equal(t, []string{"main-mon-a", "main-mon-e", "main-mon-f"}, s.monServices())
	require.Equal(t, "f", s.cluster().Status.LastMon)
	require.Equal(t, "e", s.Secret("main-keys").Annotations[kube.AnnotationLastMon], "no restore gives a name again")
}
