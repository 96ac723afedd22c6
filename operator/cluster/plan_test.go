package cluster

import (
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

const helper = "cairn:test"

// scene is what a decision rests on, put together without a cluster.
type scene struct {
	t *testing.T
	*Observed
}

// empty is a new StorageCluster on three nodes with a disk each.
func empty(t *testing.T) *scene {
	s := &scene{t, &Observed{
		Now: moment, Cluster: testCluster(), Inventory: map[string]*v1alpha1.NodeStorage{}, OSDKeys: map[string]ceph.Key{},
		Services: map[string]*corev1.Service{}, Secrets: map[string]*corev1.Secret{}, ConfigMaps: map[string]*corev1.ConfigMap{},
		Budgets:     map[string]*policyv1.PodDisruptionBudget{},
		Deployments: map[string]*appsv1.Deployment{}, CephError: ceph.Errorf(ceph.Unreached, "connect", "no mon is running"),
	}}
	for i := 1; i <= 3; i++ {
		name := fmt.Sprintf("n%d", i)
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: corev1.NodeStatus{
			Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
		s.Inventory[name] = &v1alpha1.NodeStorage{Status: v1alpha1.NodeStorageStatus{Devices: []v1alpha1.Device{
			{Name: "sda", ID: "disk1", Usable: true, Size: resource.MustParse("10Gi")}, {Name: "sdb", ID: "disk2", Usable: true, Size: resource.MustParse("10Gi")}}}}
		s.Cluster.Spec.Storage.Nodes = append(s.Cluster.Spec.Storage.Nodes, v1alpha1.StorageNode{Name: name, Devices: []v1alpha1.StorageDevice{{Name: "disk1"}, {Name: "disk2"}}})
	}
	return s
}

// founding has keys and the mons' Services with addresses, and no daemon yet.
func founding(t *testing.T) *scene {
	s := empty(t)
	s.found()
	return s
}

// found gives the cluster its keys, and its mons their Services.
func (s *scene) found() {
	keys, err := newKeys(tentacleKey)
	require.NoError(s.t, err)
	s.Keys = keys
	s.Mons = mon.Assign(nil, s.Nodes, int(s.Cluster.Spec.Mon.Count), false, "")
	for i := range s.Mons {
		s.Mons[i].Address = fmt.Sprintf("10.0.0.%d", i+1)
	}
}

// running is a converged cluster: all that is desired exists, rolled out, and
// Ceph is well.
func running(t *testing.T) *scene {
	s := founding(t)
	s.Cluster.Status.FSID = s.Keys.FSID
	for i := range s.Mons {
		s.Mons[i].Joined = true
	}
	status := &ceph.Status{FSID: s.Keys.FSID, Health: "HEALTH_OK", Mons: []string{"a", "b", "c"}, Quorum: []string{"a", "b", "c"},
		ActiveMgr: "a", StandbyMgrs: 1, OSDs: 6, OSDsUp: 6, OSDsIn: 6, PGs: map[string]int{"active+clean": 32, "active+clean+scrubbing": 1}}
	s.Ceph, s.CephError = &CephState{Status: status}, nil
	targets, _ := osd.Targets(s.Cluster, s.Keys.FSID, s.Nodes, s.Inventory, nil)
	for id, target := range targets {
		s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: id, UUID: target.UUID, Up: true, In: true, Weight: 1})
		s.OSDKeys[target.UUID] = "key"
	}
	s.settle()
	for _, d := range s.Deployments {
		pod := corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: d.Name, Labels: d.Spec.Template.Labels, UID: types.UID(d.Name)}, Status: corev1.PodStatus{Phase: corev1.PodRunning}}
		s.Pods = append(s.Pods, pod)
	}
	s.lookup = lookup{}
	for i := range s.Mons {
		s.Mons[i].Apart = mon.Apart{Run: s.monRun(s.Mons[i].Name), ID: uint64(i+1) * mon.ClientIDRange}
	}
	s.settle()
	require.Empty(t, s.open())
	return s
}

// settle makes everything exist as it is desired now.
func (s *scene) settle() {
	d := desired(s.Observed, helper)
	s.protect()
	for _, o := range d.MonServices {
		s.Services[o.Name] = stamped(s.t, o)
	}
	for _, o := range d.Configuration {
		s.ConfigMaps[o.Name] = stamped(s.t, o)
	}
	for _, o := range append(d.Keyrings, d.OSDSecrets...) {
		s.Secrets[o.Name] = stamped(s.t, o)
	}
	for _, o := range append(append(d.MonDeployments, d.MgrDeployments...), d.OSDDeployments...) {
		o = stamped(s.t, o)
		o.Generation, o.Status = 1, rolledOut(1)
		s.Deployments[o.Name] = o
	}
}

func rolledOut(generation int64) appsv1.DeploymentStatus {
	return appsv1.DeploymentStatus{ObservedGeneration: generation, Replicas: 1, UpdatedReplicas: 1, ReadyReplicas: 1, AvailableReplicas: 1}
}

// stamped is an object as it is after it was applied.
func stamped[T client.Object](t *testing.T, o T) T {
	hash, err := kube.Hash(o)
	require.NoError(t, err)
	o.GetAnnotations()[kube.AnnotationApplied] = hash
	return o
}

func (s *scene) status() v1alpha1.StorageClusterStatus {
	return status(s.Observed, desired(s.Observed, helper), s.plan())
}

// protect writes the budgets, which every look does before all else.
func (s *scene) protect() {
	for _, o := range desired(s.Observed, helper).Drain.Budgets {
		s.Budgets[o.Name] = stamped(s.t, o)
	}
}

func (s *scene) plan() []Step {
	s.protect()
	steps, err := Plan(s.Observed, desired(s.Observed, helper))
	require.NoError(s.t, err)
	return steps
}

// open are the names of the steps that may be done now, gates those of the
// others and what each waits for.
func (s *scene) open() (names []string) {
	for _, step := range s.plan() {
		if step.Gate == "" && !step.Wait {
			names = append(names, step.Name)
		}
	}
	return names
}

func (s *scene) gates() map[string]string {
	gates := map[string]string{}
	for _, step := range s.plan() {
		if step.Gate != "" {
			gates[step.Name] = step.Gate
		}
	}
	return gates
}

func with(names []string, prefix string) (out []string) {
	for _, name := range names {
		if strings.HasPrefix(name, prefix) {
			out = append(out, name)
		}
	}
	return out
}

func TestANewClusterBeginsWithKeysAndTheMonsAddresses(t *testing.T) {
	s := empty(t)
	require.Equal(t, []string{"keys"}, s.open(), "the mons' Services say which cluster they are of")
	s.Keys = founding(t).Keys
	require.Subset(t, s.open(), []string{"main-mon-a", "main-mon-b", "main-mon-c"})
}

func TestMonsAreFoundedAllAtOnce(t *testing.T) {
	require.Equal(t, []string{"mon-a", "mon-b", "mon-c"}, with(founding(t).open(), "mon-"))
}

func TestNoDaemonStartsBeforeEveryMonHasItsAddress(t *testing.T) {
	s := founding(t)
	s.Mons[1].Address = ""
	require.Empty(t, with(s.open(), "mon-"))
	require.Empty(t, with(s.open(), "mgr-"))
}

func TestNothingIsFoundedOnTooFewNodes(t *testing.T) {
	s := founding(t)
	s.Mons = nil
	s.Nodes = s.Nodes[:2]
	require.Empty(t, with(s.open(), "mon-"))
}

func TestLostKeysAreNeverReplacedByNewOnes(t *testing.T) {
	for name, lose := range map[string]func(*scene){
		"once Ceph has been seen":                   func(s *scene) { s.Keys = nil },
		"once a daemon was made, before any quorum": func(s *scene) { s.Keys, s.Ceph, s.Cluster.Status.FSID = nil, nil, "" },
		"when the Secret is damaged":                func(s *scene) { s.Keys, s.KeysError = nil, fmt.Errorf("secret main-keys has no key \"mon\"") },
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t)
			lose(s)
			require.NotContains(t, s.open(), "keys")
			require.Equal(t, v1alpha1.ReasonKeysMissing, s.status().Blocker.Reason)
			require.Contains(t, s.status().Blocker.Message, "main-keys")
		})
	}
}

func TestAChangedMonRestartsAloneAndOnlyInFullQuorum(t *testing.T) {
	change := func(s *scene) {
		s.Cluster.Spec.Resources.Mon.Requests = corev1.ResourceList{"memory": resource.MustParse("2Gi")}
	}
	t.Run("the first of them now, the others after it", func(t *testing.T) {
		s := running(t)
		change(s)
		require.Equal(t, []string{"mon-a"}, with(s.open(), "mon-"))
		require.Equal(t, "the mon before it is back in quorum", s.gates()["mon-b"])
	})
	t.Run("none while another is out of quorum", func(t *testing.T) {
		s := running(t)
		change(s)
		s.Ceph.Status.Quorum = []string{"a", "b"}
		require.Equal(t, "mon c is in quorum", s.gates()["mon-a"])
		require.Equal(t, "mon c is in quorum", s.gates()["mon-b"])
	})
	t.Run("but the one that is out of quorum, which may be what mends it", func(t *testing.T) {
		s := running(t)
		change(s)
		s.Ceph.Status.Quorum = []string{"a", "b"}
		require.Equal(t, []string{"mon-c"}, with(s.open(), "mon-"))
	})
	t.Run("none while Kubernetes still replaces another, though Ceph has not noticed", func(t *testing.T) {
		s := running(t)
		change(s)
		a := stamped(t, desired(s.Observed, helper).MonDeployments[0])
		a.Generation, a.Status = 2, rolledOut(1)
		s.Deployments[a.Name] = a
		require.Empty(t, with(s.open(), "mon-"))
		require.Equal(t, "mon a has restarted", s.gates()["mon-b"])
	})
	t.Run("none without a quorum", func(t *testing.T) {
		s := running(t)
		change(s)
		s.Ceph = nil
		require.Empty(t, with(s.open(), "mon-"))
		require.Equal(t, "the mons have a quorum", s.gates()["mon-a"])
	})
}

func TestAMonWhoseDeploymentIsGoneComesBackAtOnce(t *testing.T) {
	t.Run("while the others keep the quorum", func(t *testing.T) {
		s := running(t)
		delete(s.Deployments, "main-mon-b")
		s.Ceph.Status.Quorum = []string{"a", "c"}
		require.Equal(t, []string{"main-mon-b", "mon-b"}, s.open(), "its Service says since when it is missing")
	})
	t.Run("and when all are gone, and with them the quorum", func(t *testing.T) {
		s := running(t)
		for _, name := range []string{"main-mon-a", "main-mon-b", "main-mon-c"} {
			delete(s.Deployments, name)
		}
		s.Ceph = nil
		require.Equal(t, []string{"mon-a", "mon-b", "mon-c"}, with(s.open(), "mon-"))
	})
}

func TestMoreMonsJoinOneAtATime(t *testing.T) {
	s := running(t)
	s.Mons, s.Ceph.Status.Mons, s.Ceph.Status.Quorum = s.Mons[:1], []string{"a"}, []string{"a"}
	s.Mons[0].Founders = []string{"a"}
	s.Deployments = map[string]*appsv1.Deployment{}
	s.Cluster.Spec.Mon.Count = 1
	s.settle()
	s.Cluster.Spec.Mon.Count = 3
	require.Equal(t, []string{"main-mon-b", "main-mon-c"}, s.open(), "their Services come first")
	s.Mons = mon.Assign(s.Mons, s.Nodes, 3, false, "")
	s.Mons[1].Address, s.Mons[2].Address = "10.0.0.2", "10.0.0.3"
	require.Equal(t, []string{"mon-b"}, with(s.open(), "mon-"))
	require.Equal(t, "the mon before it is back in quorum", s.gates()["mon-c"])
}

func TestAChangedMgrRestartsAlone(t *testing.T) {
	s := running(t)
	s.Cluster.Spec.Resources.Mgr.Requests = corev1.ResourceList{"memory": resource.MustParse("1Gi")}
	require.Equal(t, []string{"mgr-a"}, s.open())
	require.Equal(t, map[string]string{"mgr-b": "the mgr before it has restarted"}, s.gates())
	s.Ceph.Status.ActiveMgr = ""
	require.Equal(t, "a mgr is active", s.gates()["mgr-a"])
}

func TestChangedOSDsRestartNodeByNodeWhileAllPGsAreClean(t *testing.T) {
	changed := func(t *testing.T) *scene {
		s := running(t)
		s.Cluster.Spec.Resources.OSD.Requests = corev1.ResourceList{"memory": resource.MustParse("4Gi")}
		return s
	}
	t.Run("all of one node together, then the next node", func(t *testing.T) {
		s := changed(t)
		require.Equal(t, []string{"osd-0", "osd-1"}, s.open())
		require.Equal(t, "the OSDs of node n1 have restarted", s.gates()["osd-2"])
		require.Equal(t, "the OSDs of node n1 have restarted", s.gates()["osd-5"])
	})
	t.Run("none while a PG is not clean", func(t *testing.T) {
		s := changed(t)
		s.Ceph.Status.PGs = map[string]int{"active+clean": 30, "active+undersized": 1, "active+degraded": 1}
		require.Empty(t, s.open())
		for range 20 { // the message does not change from look to look
			require.Equal(t, "all PGs are active+clean (1 are active+degraded)", s.gates()["osd-0"])
		}
	})
	t.Run("none while a PG has not told how it is since the last restart", func(t *testing.T) {
		s := changed(t)
		s.Ceph.Unreported = "PG 1.7 of osd.3 has not"
		require.Empty(t, s.open())
		require.Equal(t, "all PGs have told that they are active+clean (PG 1.7 of osd.3 has not)", s.gates()["osd-0"])
	})
	t.Run("none while another OSD is down", func(t *testing.T) {
		s := changed(t)
		s.Ceph.OSDs[5].Up, s.Ceph.Status.OSDsUp = false, 5
		require.Equal(t, []string{"osd-5"}, s.open(), "but the one that is down, which may be what mends it")
		require.Equal(t, "all OSDs are up (5 of 6 are)", s.gates()["osd-0"])
	})
	t.Run("none while Kubernetes still replaces those of another node, though Ceph has not noticed", func(t *testing.T) {
		s := changed(t)
		for _, d := range desired(s.Observed, helper).OSDDeployments[:2] {
			d = stamped(t, d)
			d.Generation, d.Status = 2, rolledOut(1)
			s.Deployments[d.Name] = d
		}
		require.Empty(t, s.open())
		require.Equal(t, "osd.0 has restarted", s.gates()["osd-2"])
	})
	t.Run("none without a quorum", func(t *testing.T) {
		s := changed(t)
		s.Ceph = nil
		require.Empty(t, s.open())
	})
}

func TestAnOSDThatRunsIsKeptWhateverTheSpecSaysOfItsDevice(t *testing.T) {
	for name, drop := range map[string]func(*scene){
		"the agent says nothing":             func(s *scene) { s.Inventory = map[string]*v1alpha1.NodeStorage{} },
		"its name may be another one now":    func(s *scene) { s.Cluster.Spec.Storage.Nodes[2].Devices[1].Name = "wwn-0x1" },
		"the inventory calls the disk taken": func(s *scene) { s.Inventory["n3"].Status.Devices[0].Usable = false },
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t)
			drop(s)
			require.Empty(t, s.plan())
			require.Len(t, desired(s.Observed, helper).Targets, 6)
			require.Empty(t, desired(s.Observed, helper).Leaving)
		})
	}
}

func TestAnUpgradeOfTheOperatorRestartsNoOSD(t *testing.T) {
	s := running(t)
	steps, err := Plan(s.Observed, desired(s.Observed, "cairn:next"))
	require.NoError(t, err)
	require.Empty(t, steps)
}

func TestADeviceAddedBecomesAnOSDOnceThereIsAQuorum(t *testing.T) {
	s := running(t)
	s.Inventory["n1"].Status.Devices = append(s.Inventory["n1"].Status.Devices, v1alpha1.Device{Name: "sdc", ID: "disk3", Usable: true})
	devices := &s.Cluster.Spec.Storage.Nodes[0].Devices
	*devices = append(*devices, v1alpha1.StorageDevice{Name: "disk3"})
	require.Equal(t, []string{"osd-n1-disk3"}, s.open())
	s.Ceph = nil
	require.Equal(t, "the mons have a quorum", s.gates()["osd-n1-disk3"])
}

func TestAnOSDThatHasBeenUpIsNeverFormattedAgain(t *testing.T) {
	s := running(t)
	for i := range s.Ceph.OSDs {
		s.Ceph.OSDs[i].Up, s.Ceph.OSDs[i].Weight = false, 0
	}
	for _, secret := range desired(s.Observed, helper).OSDSecrets {
		require.True(t, osd.Formatted(secret), secret.Name)
	}
}

// One look at which a disk cannot be read must not have a copy of it take its OSD over.
func TestACopyDoesNotTakeOverWhenItsOriginalCannotBeRead(t *testing.T) {
	s := running(t)
	devices := s.Inventory["n1"].Status.Devices
	devices[1].Usable, devices[1].Reason, devices[1].Message = false, v1alpha1.DeviceCannotBeProbed, "no answer within 10s"
	s.Inventory["n1"].Status.Devices = append(devices, v1alpha1.Device{Name: "sdc", ID: "copy", Reason: v1alpha1.DeviceHasOSD,
		OSD: &v1alpha1.DeviceOSD{ID: 1, UUID: s.Ceph.OSDs[1].UUID, FSID: s.Keys.FSID}})
	s.name(v1alpha1.StorageDevice{Name: "copy"})
	require.Empty(t, s.plan(), "the OSD's Secret stays, and it runs on")
	require.Contains(t, s.status().Blocker.Message, `device "copy" on node n1 is refused: it bears an OSD (`+s.Ceph.OSDs[1].UUID+`) that belongs on disk2 on node n1`)
	s.Inventory["n1"].Status.Devices = slices.Delete(s.Inventory["n1"].Status.Devices, 1, 2)
	require.Contains(t, s.open()[0], "main-osd-", "it runs from the copy when the original is out of its node")
}

// What is wrong with the device of an OSD that was never up is said: nothing else tells why one waits for it.
func TestWhatIsWrongWithTheDeviceOfANewOSDIsSaid(t *testing.T) {
	cannot := func(s *scene) {
		device := osd.Find(s.Inventory["n1"], "disk3")
		device.Usable, device.Reason, device.Message = false, v1alpha1.DeviceCannotBeProbed, "no answer within 10s"
	}
	filtered := func(s *scene) {
		s.Cluster.Spec.Storage.Nodes[0].Devices, s.Cluster.Spec.Storage.Nodes[0].Filter = nil, &v1alpha1.DeviceFilter{}
	}
	gone := func(s *scene) { s.Inventory["n1"].Status.Devices = s.Inventory["n1"].Status.Devices[:2] }
	const refused = `device "disk3" on node n1 is refused (CannotBeProbed), and osd.6 has not been up yet: no answer within 10s`
	for name, test := range map[string]struct {
		changes []func(*scene)
		says    []string
	}{
		"named":               {[]func(*scene){cannot}, []string{refused}},
		"matched":             {[]func(*scene){cannot, filtered}, []string{refused}},
		"matched, and gone":   {[]func(*scene){filtered, gone}, []string{`device "disk3" on node n1 does not exist there any more, and osd.6 has not been up yet. Plug it in; it is used as soon as it appears`}},
		"named, and gone":     {[]func(*scene){gone}, []string{`device "disk3" on node n1 does not exist there. The node has: disk1, disk2. Correct spec.storage.nodes[n1].devices, or plug the device in; it is used as soon as it appears`}},
		"it is made just now": {[]func(*scene){cannot, func(s *scene) { osd.Find(s.Inventory["n1"], "disk3").Reason = v1alpha1.DeviceInUse }}, nil},
		"it runs":             {[]func(*scene){cannot, func(s *scene) { s.Ceph.OSDs[6].Up, s.Ceph.OSDs[6].New = true, false }}, nil},
		"its node is silent":  {[]func(*scene){cannot, func(s *scene) { s.Nodes[0].Status.Conditions[0].Status = corev1.ConditionUnknown }}, nil},
		"nobody asks Ceph":    {[]func(*scene){cannot, func(s *scene) { s.Ceph = nil }}, nil},
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t)
			s.Inventory["n1"].Status.Devices = append(s.Inventory["n1"].Status.Devices, v1alpha1.Device{Name: "sdc", ID: "disk3", Usable: true, Size: resource.MustParse("10Gi")})
			s.name(v1alpha1.StorageDevice{Name: "disk3"})
			target := *s.stepNamed("osd-n1-disk3").NewOSD
			secret := osd.Secret(s.Cluster, target, "key", 6, false)
			s.Secrets[secret.Name], s.OSDKeys[target.UUID] = stamped(t, secret), "key"
			s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: 6, UUID: target.UUID, New: true})
			s.settle()
			require.Empty(t, s.said())
			for _, change := range test.changes {
				change(s)
			}
			s.lookup = lookup{}
			require.Equal(t, test.says, s.said())
			if len(test.says) > 0 {
				require.Contains(t, s.status().Blocker.Message, test.says[0])
			}
		})
	}
}

// An OSD that may run in a node which does not answer does not start from another disk, or the same, elsewhere.
func TestNoOSDIsTakenOverFromANodeThatDoesNotAnswerWhileItMayRun(t *testing.T) {
	s := running(t)
	device := func(name string) v1alpha1.Device {
		return v1alpha1.Device{Name: name, ID: name, Reason: v1alpha1.DeviceHasOSD, OSD: &v1alpha1.DeviceOSD{ID: 1, UUID: s.Ceph.OSDs[1].UUID, FSID: s.Keys.FSID}}
	}
	s.Nodes[0].Status.Conditions[0].Status = corev1.ConditionUnknown
	s.Inventory["n2"].Status.Devices = append(s.Inventory["n2"].Status.Devices, device("disk9"))
	s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:1]
	s.Cluster.Spec.Storage.Nodes[1].Devices = append(s.Cluster.Spec.Storage.Nodes[1].Devices, v1alpha1.StorageDevice{Name: "disk9"})
	moved := func() bool {
		return slices.ContainsFunc(desired(s.Observed, helper).Targets, func(t osd.Target) bool { return t.Node == "n2" && t.Device == "disk9" })
	}
	require.False(t, moved())
	require.Contains(t, s.said()[0], `device "disk9" on node n2 is refused`)
	s.Ceph.OSDs[1].Up = false
	require.True(t, moved())
	s.Ceph = nil
	require.False(t, moved(), "nobody knows")
}

// A pod that is deleted bears the time by which it has to be gone.
func TestAPodIsSaidToBeAskedToStopWhenItWas(t *testing.T) {
	pod := &corev1.Pod{}
	require.Empty(t, since(pod))
	pod.DeletionTimestamp, pod.DeletionGracePeriodSeconds = &metav1.Time{Time: moment.Add(30 * time.Second)}, ptr.To[int64](30)
	require.Equal(t, ", asked for at "+clock(moment), since(pod))
}
