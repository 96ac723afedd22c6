package cluster_test

import (
	"context"
	"fmt"
	"maps"
	"os"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/upgrade"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

// verb is what is asked of a cluster.
type verb struct {
	name string
	// begin makes a cluster, and what asks for the verb, looks until it is done, and
	// checks what must hold then beside being like the cluster of which nothing was disturbed.
	begin func(t *testing.T) (*site, func())
	// writes are some that the verb consists of: without them nothing was swept.
	writes []string
}

var verbs = []verb{
	{"create", beginCreation, []string{"apply Deployment main-mon-a", "ceph NewOSD"}},
	{"add a disk", beginExpansion, []string{"ceph NewOSD"}},
	{"remove a disk, and wipe it", beginRemoval, []string{"ceph SetOSDOut", "ceph PurgeOSD", "create *v1.Job main-wipe-osd"}},
	{"replace a disk", beginReplacement, []string{"ceph DestroyOSD", "ceph RenewOSD"}},
	{"add a disk with a database, and remove it", beginDatabase, []string{"ceph NewOSD", "ceph PurgeOSD", "create *v1.Job main-free-db"}},
	{"add an encrypted disk", beginEncryptedDisk, []string{"create *v1.Secret main-osd-", "ceph NewOSD"}},
	{"a disk grows", beginGrowth, []string{"ceph SetOSDWeight"}},
	{"weights", beginWeights, []string{"ceph SetOSDWeight", "ceph NewOSD"}},
	{"move a disk", beginMove, []string{"apply Deployment main-osd-3"}},
	{"OSDs on claims", beginClaims, []string{"create *v1.PersistentVolumeClaim main-fast-0", "ceph NewOSD", "ceph PurgeOSD", "delete *v1.PersistentVolumeClaim main-fast-0"}},
	{"fewer and more mons", beginMonCount, []string{"ceph RemoveMon"}},
	{"move a mon", beginMonMove, []string{"ceph RemoveMon"}},
	{"replace a lost mon", beginFailover, []string{"ceph RemoveMon"}},
	{"replace it on the host network", beginHostFailover, []string{"ceph RemoveMon", "apply ConfigMap main-ceph-conf"}},
	{"rebuild a lost quorum", beginRecovery, []string{"create *v1.Job main-mon-keep", "delete *v1.Service main-mon-b", "create *v1.Job main-mon-rebuild"}},
	{"rebuild it from OSDs", beginFromOSDs, []string{"create *v1.Job main-mon-collect", "delete *v1.Service main-mon-b", "create *v1.Job main-mon-found"}},
	{"change options", beginOptions, []string{"ceph SetConfig", "ceph UnsetConfig"}},
	{"rotate the daemons' keys", beginDaemonKeys, []string{"ceph PendingKey", "ceph CommitKey"}},
	{"rotate the CSI driver's keys", beginCSIKeys, []string{"ceph EnsureUser", "ceph RemoveUser"}},
	{"encrypt connections", beginEncryption, []string{"apply ConfigMap main-ceph-conf", "apply Deployment main-mon-a", "apply Deployment main-osd-2"}},
	{"drain two nodes", beginDrain, []string{"ceph SetNoOut", "apply PodDisruptionBudget main-storage"}},
	{"upgrade", beginUpgrade, []string{"ceph RequireOSDRelease"}},
	{"destroy", beginDestruction, []string{"create *v1.Job"}},
	{"adopt", beginAdoption, []string{"apply Deployment main-mon-a"}},
}

// exhaustive disturbs every write in every way, as 'make sweeps' asks for. Otherwise of
// as many writes as sampled says the first is where the operator is killed, and that in
// the middle the one whose answer is lost.
var exhaustive = os.Getenv("CAIRN_SWEEP") == "all"

const sampled = 16

// stale is for how many looks of the operator its lists stay as they are: one of these for
// each verb, when not exhaustive.
var stale = []int{2, 5}

// watched are kinds of which the operator's watch can be dropped unnoticed: their lists
// stay as they are while those of all others go on.
var watched = []client.ObjectList{
	&appsv1.DeploymentList{}, &corev1.PodList{}, &corev1.SecretList{}, &corev1.NodeList{},
	&v1alpha1.NodeStorageList{}, &policyv1.PodDisruptionBudgetList{}, &corev1.ConfigMapList{},
}

// dropped is for how many looks.
const dropped = 12

// Whatever disturbs a verb, it ends where it ends undisturbed: the operator killed
// before its writes, the answers to them lost, lists that are old, and watches that are
// dropped. Then twenty looks write nothing.
func TestAVerbThatIsDisturbedEndsInTheSamePlace(t *testing.T) {
	for i, v := range verbs {
		t.Run(v.name, func(t *testing.T) {
			var want, writes []string
			t.Run("undisturbed", func(t *testing.T) {
				s, act := v.begin(t)
				before := len(s.Writes())
				want = s.after(act)
				writes = s.Writes()[before:]
				for _, one := range v.writes {
					require.Contains(t, strings.Join(writes, "\n"), one)
				}
				if v.name == "move a disk" {
					require.NotContains(t, writes, "ceph SetOSDOut", "nothing is moved by Ceph, while the agents' reports arrive")
				}
				require.Empty(t, s.errors)
			})
			disturbed := func(name string, disturb func(s *site), faults int) {
				t.Run(name, func(t *testing.T) {
					s, act := v.begin(t)
					disturb(s)
					require.Equal(t, want, s.after(act))
					require.LessOrEqual(t, len(s.errors), faults)
				})
			}
			kills, answers, drops := 0, 0, 0
			for n, write := range writes {
				name := fmt.Sprintf("%02d %s", n+1, write)
				if exhaustive || n%sampled == 0 {
					kills++
					disturbed("killed at "+name, func(s *site) { s.KillAt(len(s.Writes()) + n + 1) }, 1)
				}
				// Those of Ceph do not get lost in the simulation.
				if !strings.HasPrefix(write, "ceph ") && (exhaustive || n%sampled == sampled/2) {
					answers++
					disturbed("answer lost to "+name, func(s *site) { s.LoseAnswerAt(len(s.Writes()) + n + 1) }, 1)
				}
			}
			var lags []string
			for n, lag := range stale {
				if !exhaustive && n%2 != i%2 {
					continue
				}
				lags = append(lags, strconv.Itoa(lag-1))
				disturbed(fmt.Sprintf("lists of up to %d looks ago", lag-1), func(s *site) { s.client, s.lag = s.LaggingClient(), lag }, looks*lag)
			}
			for n, kind := range watched {
				if !exhaustive && n%4 != i%4 {
					continue
				}
				drops++
				disturbed(fmt.Sprintf("watch dropped of %T", kind), func(s *site) {
					s.Remember()
					s.client, s.dropped = s.LaggingClient(kind), dropped+1
				}, dropped)
			}
			if !t.Failed() {
				fmt.Printf("sweep: %-21s %3d writes: killed before %3d, %3d answers lost, lists %s looks old, %d watches dropped: as undisturbed, then 20 looks write nothing\n",
					v.name, len(writes), kills, answers, strings.Join(lags, " and "), drops)
			}
		})
	}
}

// What the sweep compares must tell an operator that leaves things behind, or writes
// without end.
func TestTheSweepSeesPlantedBugs(t *testing.T) {
	undisturbed, act := beginRemoval(t)
	want := undisturbed.after(act)
	for name, plant := range map[string]interceptor.Funcs{
		"an OSD's key is never deleted": {Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if _, secret := o.(*corev1.Secret); secret {
				return nil
			}
			return c.Delete(ctx, o, opts...)
		}},
		"an OSD's daemon is never stopped": {Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if _, deployment := o.(*appsv1.Deployment); deployment {
				return nil
			}
			return c.Delete(ctx, o, opts...)
		}},
		"a disk is never wiped": {Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if _, job := o.(*batchv1.Job); job {
				return nil
			}
			return c.Create(ctx, o, opts...)
		}},
	} {
		t.Run(name, func(t *testing.T) {
			s := fourOSDs(t)
			s.client = interceptor.NewClient(s.OperatorClient().(client.WithWatch), plant)
			s.takeOutAndWipe()
			s.looks(30)
			require.NotEqual(t, want, append(s.shape(), s.maps()...))
		})
	}
}

// after a verb: what there is in Kubernetes and in Ceph's maps. Nothing is written any more.
func (s *site) after(act func()) []string {
	s.t.Helper()
	act()
	s.client, s.lag, s.dropped = s.OperatorClient(), 0, 0
	for range 4 { // one that was killed last asks the mons, notes what they say, and says so
		if !s.gone() {
			s.look()
		}
	}
	writes := len(s.Writes())
	for range 20 {
		if !s.gone() {
			s.reconcile()
		}
	}
	require.Empty(s.t, s.Writes()[writes:], "the operator comes to rest")
	return append(s.shape(), s.maps()...)
}

// maps are what Ceph has of its daemons and pools.
func (s *site) maps() (out []string) {
	if len(s.Quorum()) == 0 {
		return nil
	}
	conn, err := s.Ceph.Connect(s.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(s.t, err)
	osds, err := conn.OSDs(s.t.Context())
	require.NoError(s.t, err)
	devices := map[string]string{}
	for at, uuid := range s.OSDs() {
		devices[uuid] = at
	}
	for _, o := range osds {
		o.UUID = devices[o.UUID]
		out = append(out, fmt.Sprintf("%+v", o))
	}
	pools, err := conn.Pools(s.t.Context())
	require.NoError(s.t, err)
	for i := range pools {
		out = append(out, fmt.Sprintf("%+v", pools[i].Spec))
	}
	slices.Sort(out)
	return append(out, "mons "+s.quorate(), fmt.Sprintf("OSDs on %v", slices.Sorted(maps.Keys(s.OSDs()))))
}

func beginCreation(t *testing.T) (*site, func()) {
	s := newSite(t)
	return s, func() {
		c := s.converge()
		// The simulation has checked that no second fsid, OSD or key was made.
		require.Equal(t, s.FSID(), c.Status.FSID)
		require.Equal(t, s.FSID(), string(s.Secret("main-keys").Data["fsid"]))
		require.Len(t, s.OSDs(), 3)
	}
}

func beginExpansion(t *testing.T) (*site, func()) {
	s := newSite(t)
	s.converge()
	s.look()
	return s, func() {
		s.edit(func(c *v1alpha1.StorageCluster) {
			c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
		})
		s.looksUntil("it is used", func() bool { return s.known() != nil && s.known().Up })
		require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	}
}

func beginRemoval(t *testing.T) (*site, func()) {
	s := fourOSDs(t)
	return s, func() {
		s.takeOutAndWipe()
		s.looksUntil("nothing to be left", func() bool { return len(s.left()) == 0 })
		require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
		require.Len(t, s.osds(), 3)
		require.NotContains(t, s.OSDs(), "node1/disk2")
		require.Zero(t, s.freeingJobs())
	}
}

func beginReplacement(t *testing.T) (*site, func()) {
	s, old := deadDisk(t)
	since := len(s.Writes())
	return s, func() {
		s.replace()
		s.looksUntil("the new device has the place", func() bool { return s.takenOver(old, since) == nil })
		require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
		require.NoError(t, s.takenOver(old, since))
	}
}

// A disk is put into another node, and named there: its OSD goes with it.
func beginMove(t *testing.T) (*site, func()) {
	s := fourOSDs(t)
	before := *s.known()
	return s, func() {
		s.Move("node1", "disk2", "node2", "disk9")
		s.edit(func(c *v1alpha1.StorageCluster) {
			c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
			c.Spec.Storage.Nodes[1].Devices = append(c.Spec.Storage.Nodes[1].Devices, v1alpha1.StorageDevice{Name: "disk9"})
		})
		want := before
		want.Host = "node2"
		s.looksUntil("it runs on the other node", func() bool { return slices.Contains(s.osds(), want) })
		require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	}
}

func beginMonCount(t *testing.T) (*site, func()) {
	s := clocked(t)
	s.Spare("node4")
	s.Spare("node5")
	count := func(n int32, quorate string) {
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = n })
		s.looksUntil(quorate, func() bool { return s.quorate() == quorate })
		s.converge()
	}
	return s, func() {
		count(1, "a of a")
		count(3, "ade of ade")
		count(5, "adefg of adefg")
		count(3, "ade of ade")
	}
}

// A mon's node loses the label that the spec asks for, and another one gets it.
func beginMonMove(t *testing.T) (*site, func()) {
	s := &site{World: simulation.New(t), t: t, name: "main"}
	s.client = s.OperatorClient()
	label := "mons-of-" + s.Namespace // the nodes are those of all worlds
	s.Spare("node4")
	for _, node := range simulation.Nodes {
		s.label(node, label, "yes")
	}
	s.Cluster(s.name, func(c *v1alpha1.StorageCluster) { c.Spec.Placement.NodeSelector = map[string]string{label: "yes"} })
	s.converge()
	s.look()
	return s, func() {
		s.label("node2", label, "no")
		s.label("node4", label, "yes")
		s.looksUntil("another mon is there", func() bool { return s.quorate() == "acd of acd" })
		require.Equal(t, "3/3", s.converge().Status.Mons.Summary)
	}
}

func (s *site) label(name, label, value string) {
	var node corev1.Node
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Name: name}, &node))
	node.Labels[label] = value
	require.NoError(s.t, s.Client.Update(s.t.Context(), &node))
}

func beginFailover(t *testing.T) (*site, func()) { return beginFailoverOf(t) }

func beginFailoverOf(t *testing.T, change ...func(*v1alpha1.StorageCluster)) (*site, func()) {
	s := clocked(t, change...)
	s.Spare("node4")
	return s, func() {
		s.Lose("node3")
		s.looksUntil("since when it is missed to be written down", func() bool {
			return strings.Contains(fmt.Sprint(s.cluster().Status.Plan), "another node gets a mon at")
		})
		s.looks(3 + s.lag)
		s.pass(time.Hour)
		s.looksUntil("another mon is there", func() bool { return s.quorate() == "abd of abd" })
		s.looks(5)
	}
}

func beginOptions(t *testing.T) (*site, func()) {
	s := newSite(t, withOptions(some()))
	s.converge()
	s.looks(2)
	return s, func() {
		s.edit(withOptions(others()))
		want := []string{"osd.1/osd_memory_target=1073741824", "osd/osd_recovery_sleep_hdd=0.000000"}
		s.looksUntil("the options are set", func() bool { return slices.Equal(want, s.database()) })
		s.converge()
		require.Equal(t, want, s.database())
		require.Equal(t, "[osd]\nosd_op_num_shards = 4\n", s.file())
		for name, generation := range s.generations() {
			require.LessOrEqual(t, generation, int64(2), "%s restarts once", name)
		}
	}
}

// Two nodes are drained at once, each of which comes back when it is empty.
func beginDrain(t *testing.T) (*site, func()) {
	s := begun(t)
	return s, func() {
		s.Drain(true, "node1", "node2")
		for _, node := range []string{"node1", "node2"} {
			s.looksUntil(node+" is empty", s.empty(node))
			s.looks(3)
			s.Uncordon(node)
		}
		s.looksUntil("nothing is said of drains", func() bool { return len(s.noOut()) == 0 && len(s.cluster().Status.Drained) == 0 })
		s.converge()
		s.looks(3)
		require.Empty(t, s.Broken())
	}
}

func beginUpgrade(t *testing.T) (*site, func()) {
	s := reefSite(t)
	return s, func() {
		s.upgradeTo(upgrade.Shipped)
		s.looksUntil("the upgrade is over", func() bool { return s.cluster().Status.Image == upgrade.Shipped })
		s.upgraded(s.converge())
	}
}

func beginDestruction(t *testing.T) (*site, func()) {
	s := doomed(t)
	return s, func() {
		s.delete()
		s.looksUntilGone()
		s.nothingLeft()
	}
}

func beginAdoption(t *testing.T) (*site, func()) {
	k := newKept(t)
	return k.site, func() {
		k.Cluster(k.name)
		k.looksUntil("the mons are back", func() bool { return len(k.Quorum()) == 3 })
		k.adopted()
	}
}
