package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

// scorched is a cluster whose mons have all lost their stores, and nothing else.
func scorched(t *testing.T) *site {
	s := newSite(t)
	s.converge()
	s.looks(2)
	s.scorch()
	return s
}

func (s *site) scorch() {
	for _, node := range simulation.Nodes {
		s.LoseStores(node)
	}
	s.Step()
	s.looks(3)
	require.Empty(s.t, s.errors)
}

func fromOSDs(c *v1alpha1.StorageCluster, skip ...v1alpha1.NodeName) *v1alpha1.MonRecovery {
	r := asked(c, v1alpha1.FromOSDs, skip...)
	r.Confirmation = "yes-rebuild-the-quorum-of-main-from-osds"
	return r
}

func (s *site) recoverFromOSDs(skip ...v1alpha1.NodeName) {
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery = fromOSDs(c, skip...) })
}

// wholeFromOSDs requires three mons and all data.
func (s *site) wholeFromOSDs(fsid string, osds map[string]string) {
	s.t.Helper()
	require.Equal(s.t, fsid, s.converge().Status.FSID)
	s.looks(2) // the last Secrets and budgets
	require.Len(s.t, s.Quorum(), 3)
	require.Equal(s.t, osds, s.OSDs())
	require.Len(s.t, s.monServices(), 3)
	require.Empty(s.t, s.recoverySecrets(), "the keys are not left lying about")
}

func (s *site) recoverySecrets() (names []string) {
	var secrets corev1.SecretList
	require.NoError(s.t, s.Client.List(s.t.Context(), &secrets, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon-recovery"}))
	for i := range secrets.Items {
		names = append(names, secrets.Items[i].Name)
	}
	return names
}

func TestMonsThatAllLostTheirStoresDoNotBeginAnew(t *testing.T) {
	s := scorched(t)
	s.looks(5)
	require.Empty(t, s.Stores(), "no store is made, so there is no quorum that knows nothing")
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonQuorumLost, c.Status.Blocker.Reason)
	for _, words := range []string{"from one mon that is left, or from the OSDs when no mon's store is, which", "{from: osds, lostSince:", "confirmation: yes-rebuild-the-quorum-of-main-from-osds}"} {
		require.Contains(t, c.Status.Blocker.Message, words)
	}
}

func TestAQuorumIsRebuiltFromTheOSDs(t *testing.T) {
	s := scorched(t)
	fsid, osds := s.FSID(), s.OSDs()
	s.recoverFromOSDs()
	record := s.rebuilt()
	require.Equal(t, []string{v1alpha1.FromOSDs, "node1", "a"}, []string{record.From, record.Node, record.Mon})
	require.Equal(t, []string{"b", "c"}, record.GaveUp)
	require.Equal(t, []string{"main-mon-a"}, s.monServices())
	s.wholeFromOSDs(fsid, osds)
	require.Equal(t, []string{"a", "d", "e"}, s.Quorum())
	require.Empty(t, s.errors)
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
}

// beginFromOSDs is the verb that the sweep disturbs.
func beginFromOSDs(t *testing.T) (*site, func()) {
	s := scorched(t)
	fsid, osds := s.FSID(), s.OSDs()
	return s, func() {
		s.recoverFromOSDs()
		s.looksUntil("the quorum is rebuilt", func() bool { return s.recovery() != nil && s.recovery().Finished != nil })
		s.looksUntil("other mons have joined", func() bool { return s.quorate() == "ade of ade" })
		s.wholeFromOSDs(fsid, osds)
	}
}

func TestTheMonBeginsWhereTheNewestMapIs(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	s.lose("node1")
	s.looks(3) // the map goes on without its OSD
	s.Freeze("node2")
	s.Freeze("node3")
	fsid, osds := s.FSID(), s.OSDs()
	s.scorch()
	for _, node := range simulation.Nodes {
		s.Return(node)
	}
	s.looks(3)
	address := s.service("main-mon-b").Spec.ClusterIP
	s.recoverFromOSDs()
	record := s.rebuilt()
	require.Equal(t, []string{"node2", "b"}, []string{record.Node, record.Mon})
	require.Equal(t, address, s.service("main-mon-b").Spec.ClusterIP, "clients find it")
	s.wholeFromOSDs(fsid, osds)
}

func (s *site) service(name string) *corev1.Service {
	var service corev1.Service
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: name}, &service))
	return &service
}

func TestAMonBeginsOnANodeThatHadNone(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) {
		c.Spec.Mon.Count = 1
		c.Spec.Storage.Nodes = c.Spec.Storage.Nodes[1:]
	})
	s.converge()
	s.looks(2)
	fsid, osds := s.FSID(), s.OSDs()
	address := s.service("main-mon-a").Spec.ClusterIP
	s.scorch()
	s.recoverFromOSDs()
	require.Equal(t, "node2", s.rebuilt().Node)
	require.Equal(t, fsid, s.converge().Status.FSID)
	require.Equal(t, osds, s.OSDs())
	require.Equal(t, []string{"a"}, s.Quorum())
	require.Equal(t, []string{"node2/a"}, s.Stores())
	require.Equal(t, address, s.service("main-mon-a").Spec.ClusterIP)
	require.Equal(t, "node2", s.service("main-mon-a").Annotations[kube.AnnotationNode])
}

func TestARebuildingFromTheOSDsIsRefusedWithTheReason(t *testing.T) {
	s := scorched(t)
	refused := func(says string) {
		s.looks(4)
		c := s.cluster()
		require.Equal(t, v1alpha1.ReasonRecoveryRefused, c.Status.Blocker.Reason)
		require.Contains(t, c.Status.Blocker.Message, says)
		require.Equal(t, v1alpha1.RiskDestroys, c.Status.Plan[0].Risk)
		require.Nil(t, s.recovery())
	}
	t.Run("for another loss", func(t *testing.T) {
		s.edit(func(c *v1alpha1.StorageCluster) {
			c.Spec.Mon.Recovery = fromOSDs(c)
			c.Spec.Mon.Recovery.LostSince = metav1.NewTime(c.Spec.Mon.Recovery.LostSince.Add(-time.Hour))
		})
		refused("was another loss")
	})
	t.Run("while a node may have a mon's store, and an OSD", func(t *testing.T) {
		s.Lose("node3")
		s.recoverFromOSDs()
		refused("what is in brackets may have its store there: node node3 (mon c, osd.2). Bring them back")
	})
	t.Run("while no OSD is left", func(t *testing.T) {
		s.Lose("node1")
		s.Lose("node2")
		s.recoverFromOSDs("node1", "node2", "node3")
		refused("there is an OSD to rebuild it from")
	})
	t.Run("while most mons may form a quorum", func(t *testing.T) {
		for _, node := range simulation.Nodes {
			s.Return(node)
		}
		s.setMonsRunning("a", "b")
		s.recoverFromOSDs()
		s.reconcile()
		c := s.cluster()
		require.Equal(t, v1alpha1.ReasonRecoveryRefused, c.Status.Blocker.Reason)
		require.Contains(t, c.Status.Blocker.Message, "2 of 3 run or start")
		require.Nil(t, s.recovery())
	})
}

// setMonsRunning has the pods of mons be as those that run.
func (s *site) setMonsRunning(names ...string) {
	var pods corev1.PodList
	require.NoError(s.t, s.Client.List(s.t.Context(), &pods, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon"}))
	for i := range pods.Items {
		pod := &pods.Items[i]
		if slices.Contains(names, pod.Labels[kube.LabelInstance]) {
			pod.Status.Phase, pod.Status.ContainerStatuses = corev1.PodRunning, nil
			require.NoError(s.t, s.Client.Status().Update(s.t.Context(), pod))
		}
	}
}

func TestANodeThatIsGoneForEverIsGivenUpWithItsOSDs(t *testing.T) {
	s := scorched(t)
	s.Lose("node3")
	s.looks(2)
	s.recoverFromOSDs("node3")
	s.reconcile()
	require.Contains(t, s.cluster().Status.Plan[0].What, "and mon c, osd.2 of node node3")
	record := s.rebuilt()
	require.Equal(t, "node1", record.Node)
	require.Len(t, record.GaveUpOSDs, 1)
	s.looks(4)
	require.Contains(t, s.Quorum(), "a")
	require.NotContains(t, s.Ceph.Mons(), "c")

	// Its node comes back after all: its OSD, which may know another map, does not.
	s.Return("node3")
	s.looks(5)
	require.Empty(t, s.Ceph.Key("osd.2"), "whoever has its key is refused")
	require.NotContains(t, s.generations(), "osd-2")
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonOSDGivenUp, blocker.Reason)
	require.Contains(t, blocker.Message, "osd.2 (disk1 on node node3) was given up when the quorum was rebuilt from the other OSDs, and never starts again")
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Security.CephX.Daemons.KeyGeneration = 2
		c.Spec.Storage.Nodes = c.Spec.Storage.Nodes[:2]
	})
	s.looksUntil("it has left", func() bool { return len(s.osds()) == 2 && s.cluster().Status.CephX.Daemons.KeyGeneration == 2 })
	require.Empty(t, s.errors)
}

// A disk that turns out to be dead while it is to be read is given up by taking it out of
// the spec, as the message says.
func TestADeadDiskIsGivenUpWhileTheOthersAreRead(t *testing.T) {
	s := scorched(t)
	dead := s.OSDs()["node3/disk1"]
	s.Fail("node3", "disk1")
	s.recoverFromOSDs()
	s.looksUntil("only that is waited for", func() bool {
		plan := s.cluster().Status.Plan
		return len(plan) > 0 && strings.HasPrefix(plan[0].What, "wait for Job main-mon-collect-") && strings.Contains(plan[0].What, "osd.2")
	})
	s.looks(3)
	require.Empty(t, s.recovery().Mon)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.Nodes = c.Spec.Storage.Nodes[:2] })
	s.looksUntil("the store is made", func() bool {
		return slices.ContainsFunc(s.recoveryJobs(), func(job batchv1.Job) bool {
			return strings.Contains(job.Name, "-found-") && job.Status.Succeeded > 0
		})
	})
	s.KillAt(len(s.Writes()) + 3) // the keys are gone, that it is given up is written down, that it is finished is not
	require.Equal(t, []string{dead}, s.rebuilt().GaveUpOSDs)
	require.Len(t, s.errors, 1)
	s.looksUntil("mons have joined", func() bool { return len(s.Quorum()) == 3 })
	require.NotContains(t, s.generations(), "osd-2")
}

// An OSD that was leaving before is read as all others, and goes on to leave: it may have
// data that is nowhere else.
func TestAnOSDThatWasLeavingIsReadAndGoesOnToLeave(t *testing.T) {
	s := fourOSDs(t)
	s.takeOut()
	s.looksUntil("that it leaves is written down", func() bool { return strings.Contains(fmt.Sprint(s.cluster().Status.Plan), "drain") })
	s.looks(1)
	require.NotNil(t, s.known())
	s.scorch()
	s.recoverFromOSDs()
	require.Empty(t, s.rebuilt().GaveUpOSDs)
	s.looksUntil("nothing to be left", func() bool { return len(s.left()) == 0 })
	require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
}

func TestOSDsOnClaimsAreNotPassedOver(t *testing.T) {
	s := onClaims(t, fast(1))
	s.looks(2)
	known := s.onClaim("main-fast-0")
	name := fmt.Sprintf("osd.%d", known.ID)
	s.scorch()
	s.recoverFromOSDs()
	s.looks(4)
	c := s.cluster()
	require.Nil(t, s.recovery())
	require.Equal(t, v1alpha1.ReasonRecoveryRefused, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "no OSD is on a claim, whose maps Cairn cannot read: "+name+" (claim main-fast-0). One of them may have the newest")
	s.edit(fast(0))
	require.Equal(t, []string{known.UUID}, s.rebuilt().GaveUpOSDs)
	s.looks(5)
	require.Empty(t, s.Ceph.Key(name))
	require.NotContains(t, s.generations(), fmt.Sprintf("osd-%d", known.ID))
}

// dieAtWork has a node die just when it has a Job of the rebuilding.
func (s *site) dieAtWork(node string) {
	for range looks {
		s.reconcile()
		for _, job := range s.recoveryJobs() {
			if job.Spec.Template.Spec.NodeName == node {
				s.Lose(node)
				s.looks(2)
				return
			}
		}
		s.Step()
	}
	require.Fail(s.t, "it never has one")
}

func (s *site) recoveryJobs() []batchv1.Job {
	var jobs batchv1.JobList
	require.NoError(s.t, s.Client.List(s.t.Context(), &jobs, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon-recovery"}))
	return jobs.Items
}

// A Job on a node that dies holds up what is taken back, and says so; it is not left to go
// on when the node comes back after it was given up.
func TestAJobOnANodeThatDiesIsNotLeftBehind(t *testing.T) {
	s := scorched(t)
	s.recoverFromOSDs()
	s.dieAtWork("node3")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery = nil })
	s.looks(3)
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonNodeGone, blocker.Reason)
	require.Contains(t, blocker.Message, "to be gone, asked for at")
	require.Contains(t, blocker.Message, "node node3 is ready, on which its pod may still run")
	s.Return("node3")
	s.looksUntil("it is taken back", func() bool { return s.recovery() == nil })

	s.recoverFromOSDs()
	s.dieAtWork("node3")
	s.recoverFromOSDs("node3")
	s.rebuilt()
	s.Return("node3")
	s.looks(2)
	for _, job := range s.recoveryJobs() {
		require.Positive(t, job.Status.Succeeded, job.Name)
	}
}

// On the host network the mon that begins on another node has that node's address.
func TestAMonOfTheHostNetworkBeginsAtTheAddressOfItsNode(t *testing.T) {
	s := newSite(t, onHost, func(c *v1alpha1.StorageCluster) {
		c.Spec.Mon.Count = 1
		c.Spec.Storage.Nodes = c.Spec.Storage.Nodes[1:]
	})
	s.converge()
	s.looks(2)
	s.scorch()
	s.recoverFromOSDs()
	require.Equal(t, "node2", s.rebuilt().Node)
	s.converge()
	require.Equal(t, at(nodes("node2")...), s.monHosts())
}

func TestAStoreThatIsThereAfterAllIsNotPassedOver(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	s.LoseStores("node1")
	s.LoseStores("node2")
	s.Crash("cairn.storage/ceph:20.2.4", true) // mon c does not start, though it has its store
	s.Step()
	s.looks(3)
	s.recoverFromOSDs()
	s.looks(10)
	c := s.cluster()
	require.NotNil(t, s.recovery())
	require.Contains(t, fmt.Sprint(c.Status.Plan), "wait for Job main-mon-collect-")
	require.Empty(t, s.recovery().Mon)
	require.Len(t, s.monServices(), 3)

	s.Crash("cairn.storage/ceph:20.2.4", false)
	s.recoverFrom("c")
	s.rebuilt()
	s.looks(3)
	require.Contains(t, s.Quorum(), "c")
}

func TestAReportThatIsLostIsMadeAgain(t *testing.T) {
	s := scorched(t)
	s.recoverFromOSDs()
	s.looksUntil("a Job has ended", func() bool { return len(s.jobPods()) > 0 })
	for _, pod := range s.jobPods() {
		require.NoError(t, s.Client.Delete(t.Context(), &pod, client.GracePeriodSeconds(0)))
	}
	s.rebuilt()
}

func (s *site) jobPods() []corev1.Pod {
	var pods corev1.PodList
	require.NoError(s.t, s.Client.List(s.t.Context(), &pods, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon-recovery"}))
	return pods.Items
}

func TestDataPathsAreStartedAgainForTheirSessionsAreGone(t *testing.T) {
	s := scorched(t)
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "cairn-csi-attach-x", Labels: map[string]string{kube.LabelComponent: csidriver.Component, kube.LabelInstance: csidriver.AttachName}},
		Spec: corev1.PodSpec{Containers: []corev1.Container{{Name: "attach", Image: "cairn:test"}}}}
	require.NoError(t, s.Client.Create(t.Context(), pod))
	s.now = func() time.Time { return time.Now().Add(time.Minute) }
	s.recoverFromOSDs()
	s.rebuilt()
	require.True(t, s.deleted(pod))
}

// deleted reports whether an object is gone, or on its way.
func (s *site) deleted(object client.Object) bool {
	err := s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(object), object)
	return client.IgnoreNotFound(err) == nil && (err != nil || object.GetDeletionTimestamp() != nil)
}

func TestUsersHaveTheKeysThatTheyHad(t *testing.T) {
	s := scorched(t)
	secret := &corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "csi-controller", Labels: map[string]string{kube.LabelCluster: "main"},
		Annotations: map[string]string{"cairn.storage/caps": "profile rbd pool=p @ v2:1"}}, Data: map[string][]byte{"user": []byte("csi-controller"), "key": []byte("its key")}}
	require.NoError(t, s.Client.Create(t.Context(), secret))
	s.recoverFromOSDs()
	s.looksUntil("the keys are put together", func() bool { return len(s.recoverySecrets()) > 0 })
	keys := s.Secret(s.recoverySecrets()[0])
	ring := string(keys.Data["keyring"])
	for _, want := range []string{"[mon.]\n", "[client.admin]\n", "[mgr.a]\n", "[mgr.b]\n", "[osd.0]\nkey = ", "[osd.1]\n", "[osd.2]\n", "caps mgr = \"allow profile osd\"",
		"[client.csi-controller]\nkey = its key\ncaps mon = \"profile rbd\"\ncaps osd = \"profile rbd pool=p\"\n"} {
		require.Contains(t, ring, want)
	}
	require.Equal(t, 1, strings.Count(string(keys.Data["mon"]), "key = "))
	s.rebuilt()
}

func TestARebuildingFromTheOSDsCanBeTakenBack(t *testing.T) {
	s := scorched(t)
	s.recoverFromOSDs()
	s.looksUntil("it has begun", func() bool { return s.recovery() != nil })
	s.looks(2)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Recovery = nil })
	s.looksUntil("it is taken back", func() bool { return s.recovery() == nil })
	require.Len(t, s.monServices(), 3)
	s.looks(5)
	require.Empty(t, s.Stores())
	s.recoverFromOSDs()
	s.rebuilt()
}

func TestARebuildingFromTheOSDsIsForeseen(t *testing.T) {
	s := scorched(t)
	c := s.cluster()
	c.Spec.Mon.Recovery = fromOSDs(c)
	r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
	writes := len(s.Writes())
	foreseen, err := r.Foresee(t.Context(), c)
	require.NoError(t, err)
	require.Len(t, s.Writes(), writes)
	var steps []string
	for _, step := range foreseen.Steps {
		if strings.HasPrefix(step.Name, "recovery") || step.Name == "stop" {
			steps = append(steps, fmt.Sprintf("%s %s", step.Name, step.Risk))
		}
	}
	require.Equal(t, []string{"recovery Destroys", "stop None", "recovery-collect-node1 None", "recovery-collect-node2 None", "recovery-collect-node3 None",
		"recovery-choose None", "recovery-forget Destroys", "recovery-found None", "recovery-finish None"}, steps)
	require.Contains(t, strings.Join(foreseen.Assumes, " "), "once mon a answers")
}

// An operator that does not see that OSDs run, or takes the first map for the newest,
// is seen.
func TestBugsPlantedInARebuildingFromTheOSDsAreSeen(t *testing.T) {
	t.Run("OSDs run while they are read", func(t *testing.T) {
		s := scorched(t)
		s.recoverFromOSDs()
		s.Planted = true
		blind := interceptor.NewClient(s.Client, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			err := c.List(ctx, list, opts...)
			notOSD := func(labels map[string]string) bool { return labels[kube.LabelComponent] == "osd" }
			switch list := list.(type) {
			case *appsv1.DeploymentList:
				list.Items = slices.DeleteFunc(list.Items, func(d appsv1.Deployment) bool { return notOSD(d.Labels) })
			case *corev1.PodList:
				list.Items = slices.DeleteFunc(list.Items, func(p corev1.Pod) bool { return notOSD(p.Labels) })
			}
			return err
		}})
		for range 10 {
			r := &cluster.Reconciler{Client: s.client, Live: blind, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
			_, err := r.Reconcile(t.Context(), s.cluster())
			require.NoError(t, err)
			s.Step()
		}
		require.Contains(t, strings.Join(s.Violations, "\n"), "OSDs were read, or a mon's store made of what they know, while main-osd-0")
	})
	t.Run("the map is not the newest", func(t *testing.T) {
		s := scorched(t)
		s.Planted = true
		s.recoverFromOSDs()
		s.looksUntil("it is chosen", func() bool { return s.recovery() != nil && s.recovery().Mon != "" })
		c := s.cluster()
		epoch := fmt.Sprintf(`"epoch":%d`, s.recovery().Epoch)
		c.Annotations[kube.AnnotationMonRecovery] = strings.Replace(c.Annotations[kube.AnnotationMonRecovery], epoch, `"epoch":1`, 1)
		require.NoError(t, s.Client.Update(t.Context(), c))
		s.rebuilt()
		require.Contains(t, strings.Join(s.Violations, "\n"), "a mon was made of OSD map 1, though")
	})
}
