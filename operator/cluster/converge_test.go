package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/client-go/tools/events"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/tests/controlplane"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

// looks is far more than any of these clusters needs.
const looks = 60

// site is a StorageCluster in a simulated world, and the operator that looks after it.
type site struct {
	*simulation.World
	t      *testing.T
	name   string
	client client.Client
	// live is what the operator reads from the server itself; nil is what there is.
	live   client.Reader
	errors []error
	now    func() time.Time
	pass   func(time.Duration)
	events events.EventRecorder
	// lag is for how many looks the operator's lists stay as they are; 0 is none.
	lag, looked int
	// dropped is for how many looks more a watch of the operator stays dropped.
	dropped int
}

func newSite(t *testing.T, change ...func(*v1alpha1.StorageCluster)) *site {
	s := &site{World: simulation.New(t), t: t, name: "main"}
	s.client = s.OperatorClient()
	s.Cluster(s.name, change...)
	return s
}

func (s *site) cluster() *v1alpha1.StorageCluster {
	c := &v1alpha1.StorageCluster{}
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.name}, c))
	return c
}

// look is one look of the operator, after which the world goes on.
func (s *site) look() {
	c := s.reconcile()
	s.Step()
	s.Connected(c)
}

// reconcile is one look of the operator, at a cluster that is returned as it was before.
func (s *site) reconcile() *v1alpha1.StorageCluster {
	if s.lag > 0 && s.looked%s.lag == 0 {
		s.Remember()
	}
	s.looked++
	if s.dropped--; s.dropped == 0 {
		s.client = s.OperatorClient()
	}
	c := s.cluster()
	live := s.live
	if live == nil {
		live = s.Client
	}
	died, err := s.Operator(func() error {
		r := &cluster.Reconciler{Client: s.client, Live: live, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test", Now: s.now, Events: s.events}
		_, err := r.Reconcile(s.t.Context(), c)
		return err
	})
	if err != nil || died {
		s.errors = append(s.errors, err)
	}
	return c
}

// converge looks until the cluster is as specified.
func (s *site) converge() *v1alpha1.StorageCluster {
	s.t.Helper()
	for range looks * max(1, s.lag) {
		s.look()
		c := s.cluster()
		if ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady); ready != nil &&
			ready.Status == metav1.ConditionTrue && ready.ObservedGeneration == c.Generation {
			return c
		}
	}
	c := s.cluster()
	require.Failf(s.t, "not converged", "conditions %+v\nplan %+v\nblocker %+v\nerrors %v", c.Status.Conditions, c.Status.Plan, c.Status.Blocker, s.errors)
	return nil
}

func (s *site) edit(change func(*v1alpha1.StorageCluster)) {
	c := s.cluster()
	change(c)
	require.NoError(s.t, s.Client.Update(s.t.Context(), c))
}

func (s *site) lists() []client.ObjectList {
	lists := []client.ObjectList{&v1alpha1.StorageClusterList{}, &appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &corev1.PodList{}, &policyv1.PodDisruptionBudgetList{}, &corev1.PersistentVolumeClaimList{}}
	for _, list := range lists {
		require.NoError(s.t, s.Client.List(s.t.Context(), list, client.InNamespace(s.Namespace)))
	}
	return lists
}

// versions of everything in the namespace: kind and name → resourceVersion.
func (s *site) versions() map[string]string {
	out := map[string]string{}
	for _, list := range s.lists() {
		require.NoError(s.t, meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			out[fmt.Sprintf("%T %s", o, object.GetName())] = object.GetResourceVersion()
			return nil
		}))
	}
	return out
}

// shape is what there is, without what differs from cluster to cluster.
func (s *site) shape() []string {
	var out []string
	for name := range s.versions() {
		if strings.Contains(name, "Pod ") {
			name = name[:strings.LastIndex(name, "-")]
		}
		out = append(out, s.anonymous(name))
	}
	slices.Sort(out)
	return out
}

// anonymous is a name with each OSD's device in place of its UUID, and without the fsid.
func (s *site) anonymous(name string) string {
	if fsid := s.FSID(); fsid != "" {
		name = strings.ReplaceAll(name, fsid, "FSID")
	}
	for at, uuid := range s.OSDs() {
		name = strings.ReplaceAll(name, uuid[:13], strings.ReplaceAll(at, "/", "-"))
	}
	return name
}

func TestAClusterConvergesAndThenNothingIsWritten(t *testing.T) {
	s := newSite(t)
	c := s.converge()

	require.Equal(t, s.FSID(), c.Status.FSID)
	require.Equal(t, "3/3", c.Status.Mons.Summary)
	require.Equal(t, "2/2", c.Status.Mgrs.Summary)
	require.Equal(t, "3/3", c.Status.OSDs.Summary)
	require.Equal(t, "30Gi", c.Status.Capacity.Total.String())
	require.Empty(t, c.Status.Plan)
	require.Nil(t, c.Status.Blocker)
	require.Equal(t, []string{"node1/disk1", "node2/disk1", "node3/disk1"}, slices.Sorted(maps.Keys(s.OSDs())))

	s.look() // the keyrings of OSDs that are up say so
	before, writes := s.versions(), len(s.Writes())
	for range 20 {
		s.look()
	}
	require.Empty(t, s.Writes()[writes:])
	require.Equal(t, before, s.versions())
	require.Empty(t, s.errors)
}

// The operator is killed before all of the first mons are recorded.
func TestTheFirstMonsThatAreNotRecordedAtOnceFoundTheCluster(t *testing.T) {
	s := newSite(t)
	s.converge()
	at := slices.Index(s.Writes(), "apply Service main-mon-b")
	require.Positive(t, at)
	s = newSite(t)
	s.KillAt(at + 1)
	s.converge()
	require.Len(t, s.errors, 1)
	require.Equal(t, []string{"a", "b", "c"}, s.Quorum())
}

func TestAClusterOnOneNodeConverges(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) {
		c.Spec.Mon.Count, c.Spec.Mgr.Count = 1, 1
		c.Spec.Storage.Nodes = c.Spec.Storage.Nodes[:1]
	})
	require.Equal(t, "1/1", s.converge().Status.OSDs.Summary)
}

func TestADeviceAddedToTheSpecBecomesAnOSD(t *testing.T) {
	s := newSite(t)
	s.converge()
	first := s.OSDs()
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	now := s.OSDs()
	for at, uuid := range first {
		require.Equal(t, uuid, now[at])
	}
}

func TestADeviceThatDoesNotExistIsNamedWithItsNodeAndWhatToDo(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[1].Devices = []v1alpha1.StorageDevice{{Name: "disk7"}}
	})
	for range 10 {
		s.look()
	}
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonDeviceNotFound, c.Status.Blocker.Reason)
	ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, v1alpha1.ReasonDeviceNotFound, ready.Reason)
	require.Contains(t, ready.Message, `device "disk7" on node node2 does not exist there. The node has: disk1, disk2. Correct spec.storage.nodes[node2].devices`)
	require.Equal(t, "2/2", c.Status.OSDs.Summary, "the other devices are used meanwhile")
}

func TestDaemonsThatWereDeletedComeBack(t *testing.T) {
	s := newSite(t)
	s.converge()
	osds := s.OSDs()
	require.NoError(t, s.Client.DeleteAllOf(t.Context(), &appsv1.Deployment{}, client.InNamespace(s.Namespace)))
	s.Step()
	for range 10 {
		s.look()
	}
	require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
	require.Equal(t, osds, s.OSDs())
}

func TestADaemonChangedByHandIsPutBack(t *testing.T) {
	s := newSite(t)
	s.converge()
	var deployment appsv1.Deployment
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: "main-mgr-a"}, &deployment))
	want := deployment.Spec.Template.Spec.Containers[0].Command
	deployment.Spec.Template.Spec.Containers[0].Command = []string{"true"}
	require.NoError(t, s.Client.Update(t.Context(), &deployment))
	s.look()
	s.converge()
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(&deployment), &deployment))
	require.Equal(t, want, deployment.Spec.Template.Spec.Containers[0].Command)
}

func TestNewKeysAreNeverMadeForDataThatExists(t *testing.T) {
	s := newSite(t)
	s.converge()
	keys := s.Secret("main-keys")
	require.NoError(t, s.Client.Delete(t.Context(), keys.DeepCopy()))
	for range 5 {
		s.look()
	}
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonKeysMissing, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "main-keys")
	keys.ResourceVersion, keys.UID = "", ""
	require.NoError(t, s.Client.Create(t.Context(), keys))
	require.Equal(t, keys.Data["fsid"], []byte(s.converge().Status.FSID))
}

func TestALostKeyOfAnOSDIsNeverReplacedByOneThatCephDoesNotKnow(t *testing.T) {
	s := newSite(t)
	s.converge()
	for at, uuid := range s.OSDs() {
		if at == "node1/disk1" {
			require.NoError(t, s.Client.Delete(t.Context(), s.Secret("main-osd-"+uuid[:13])))
		}
	}
	for range 5 {
		s.look()
	}
	var secrets corev1.SecretList
	require.NoError(t, s.Client.List(t.Context(), &secrets, client.InNamespace(s.Namespace)))
	for _, secret := range secrets.Items {
		require.NotContains(t, secret.Name, s.OSDs()["node1/disk1"][:13])
	}
}

func TestAnOSDThatHasBeenUpIsMarkedAsFormatted(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.look()
	uuid := s.OSDs()["node2/disk1"]
	require.Equal(t, "true", string(s.Secret("main-osd-" + uuid[:13]).Data["formatted"]))
}

func TestADeletedClusterIsHeldWhileAPoolUsesItAndKeepsItsKeys(t *testing.T) {
	s := newSite(t)
	c := s.converge()
	pool := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "fast"}, Spec: v1alpha1.BlockPoolSpec{Cluster: s.name}}
	require.NoError(t, s.Client.Create(t.Context(), pool))
	require.NoError(t, s.Client.Delete(t.Context(), c))
	s.look()
	ready := meta.FindStatusCondition(s.cluster().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, v1alpha1.ReasonInUse, ready.Reason)
	require.Contains(t, ready.Message, "fast")

	require.NoError(t, s.Client.Delete(t.Context(), pool))
	c = s.cluster()
	_, err := s.Operator(func() error {
		r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
		_, err := r.Reconcile(t.Context(), c)
		return err
	})
	require.NoError(t, err)
	require.True(t, apierrors.IsNotFound(s.Client.Get(t.Context(), client.ObjectKeyFromObject(c), c)))
	require.NotEmpty(t, s.Secret("main-keys").Data["fsid"])
}

func TestAClusterInAnotherNamespaceIsRefused(t *testing.T) {
	s := newSite(t)
	c := s.cluster()
	_, err := s.Operator(func() error {
		r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: "cairn-system", Image: "cairn:test"}
		_, err := r.Reconcile(t.Context(), c)
		return err
	})
	require.NoError(t, err)
	ready := meta.FindStatusCondition(s.cluster().Status.Conditions, v1alpha1.ConditionReady)
	require.Equal(t, v1alpha1.ReasonWrongNamespace, ready.Reason)
	require.Contains(t, ready.Message, "cairn-system")
	require.Empty(t, with(s.Writes(), "apply"))
}

func with(all []string, prefix string) []string {
	return slices.DeleteFunc(slices.Clone(all), func(s string) bool { return !strings.HasPrefix(s, prefix) })
}

func TestAnErrorOfCephIsShown(t *testing.T) {
	s := newSite(t)
	s.converge()
	c := s.cluster()
	s.Ceph.FailWith(func(op string) error { return ceph.Errorf(ceph.Timeout, op, "no answer in 10s") })
	r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
	_, err := r.Reconcile(t.Context(), c)
	s.Ceph.FailWith(nil)
	require.NoError(t, err)
	require.Equal(t, v1alpha1.ReasonCephUnreachable, s.cluster().Status.Blocker.Reason)
	require.Contains(t, s.cluster().Status.Blocker.Message, "no answer in 10s")
}
