package cluster_test

import (
	"maps"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
)

// kept is what a cluster with a pool left behind when it was deleted with Retain.
type kept struct {
	*site
	fsid string
	osds map[string]string
}

func newKept(t *testing.T) *kept {
	s := newSite(t)
	s.converge()
	s.look()
	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "old", Size: 2, FailureDomain: "host", Application: "rbd"}))
	k := &kept{site: s, fsid: s.FSID(), osds: maps.Clone(s.OSDs())}
	s.delete()
	s.looksUntilGone()
	s.Step()
	require.Empty(t, s.Quorum(), "its daemons went with it")
	return k
}

// adopted requires that the cluster is the old one.
func (k *kept) adopted() {
	k.t.Helper()
	require.Equal(k.t, k.fsid, k.converge().Status.FSID)
	require.Equal(k.t, k.osds, k.OSDs())
	conn, err := k.Ceph.Connect(k.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(k.t, err)
	pools, err := conn.Pools(k.t.Context())
	require.NoError(k.t, err)
	require.Len(k.t, pools, 1)
	require.Equal(k.t, "old", pools[0].Spec.Name)
	osds, err := conn.OSDs(k.t.Context())
	require.NoError(k.t, err)
	require.Len(k.t, osds, 3)
}

// refusedFor requires that nothing is started, and why.
func (k *kept) refusedFor(reason string, says ...string) {
	k.t.Helper()
	k.Cluster(k.name)
	k.looks(8)
	c := k.cluster()
	require.NotNil(k.t, c.Status.Blocker)
	require.Equal(k.t, reason, c.Status.Blocker.Reason)
	for _, words := range says {
		require.Contains(k.t, c.Status.Blocker.Message, words)
	}
	require.Empty(k.t, k.Quorum())
	require.Equal(k.t, k.osds, k.OSDs())
}

func TestAClusterOfTheSameNameTakesUpWhatWasKept(t *testing.T) {
	k := newKept(t)
	k.Cluster(k.name)
	k.adopted()
	k.look()
	writes := len(k.Writes())
	k.looks(20)
	require.Empty(t, k.Writes()[writes:])
}

func TestNoNameOfAMonIsGivenTwiceByTheNextCluster(t *testing.T) {
	s := newSite(t)
	s.converge()
	for _, count := range []int32{1, 3, 1} { // mons d and e come and go
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = count })
		s.converge()
	}
	require.Equal(t, "e", s.cluster().Status.LastMon)
	s.delete()
	s.looksUntilGone()
	s.Step()
	require.Equal(t, "e", s.Secret("main-keys").Annotations[kube.AnnotationLastMon])
	s.Cluster(s.name)
	s.converge()
	require.Equal(t, []string{"a", "f", "g"}, s.Quorum())
}

func TestAClusterWhoseResourceWasLostComesBack(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.look()
	fsid, osds := s.FSID(), maps.Clone(s.OSDs())
	s.edit(func(c *v1alpha1.StorageCluster) { c.Finalizers = nil })
	s.delete()
	s.Step()
	require.Empty(t, s.Quorum())
	s.Cluster(s.name)
	require.Equal(t, fsid, s.converge().Status.FSID)
	require.Equal(t, osds, s.OSDs())
}

func TestKeysThatAreMissingAreNotMadeAnewForKeptData(t *testing.T) {
	k := newKept(t)
	keys := k.Secret("main-keys")
	require.NoError(t, k.Client.Delete(t.Context(), keys.DeepCopy()))
	k.refusedFor(v1alpha1.ReasonKeysMissing, "main-keys", k.fsid, "Restore the Secret")
	keys.ResourceVersion, keys.UID = "", ""
	require.NoError(t, k.Client.Create(t.Context(), keys))
	k.adopted()
}

func TestKeysOfAnotherClusterAreRefused(t *testing.T) {
	k := newKept(t)
	keys := k.Secret("main-keys")
	keys.Data["fsid"] = []byte(foreignFSID)
	require.NoError(t, k.Client.Update(t.Context(), keys))
	k.refusedFor(v1alpha1.ReasonKeysMismatch, "main-keys", foreignFSID, k.fsid)
	keys.Data["fsid"] = []byte(k.fsid)
	require.NoError(t, k.Client.Update(t.Context(), keys))
	k.adopted()
}

func TestMonsThatNobodyFindsAreNotMadeAnewForKeptData(t *testing.T) {
	k := newKept(t)
	require.NoError(t, k.Client.DeleteAllOf(t.Context(), &corev1.Service{}, client.InNamespace(k.Namespace)))
	k.refusedFor(v1alpha1.ReasonMonsMissing, "main-mon-…", "from a backup")
}

func TestMonsOfAnotherNetworkAreNotStarted(t *testing.T) {
	k := newKept(t)
	services := k.monServices()
	cluster := k.Cluster(k.name, onHost)
	k.looks(8)
	c := k.cluster()
	require.Equal(t, v1alpha1.ReasonNetworkMismatch, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "make it with spec.network.provider: pod")
	require.Empty(t, k.Quorum())
	require.Equal(t, services, k.monServices())
	require.NoError(t, k.Client.Delete(t.Context(), cluster))
	k.looksUntilGone()
	k.Cluster(k.name)
	k.adopted()
}

// Two mons without their stores would be a majority that knows nothing.
func TestMonsWithoutTheirStoresFormNoQuorum(t *testing.T) {
	k := newKept(t)
	k.LoseStores("node1")
	k.LoseStores("node2")
	k.Cluster(k.name)
	k.looks(15)
	require.Len(t, k.Quorum(), 1)
	require.NotEqual(t, metav1.ConditionTrue, readyOf(k.cluster()))
	require.Equal(t, k.osds, k.OSDs())
}

func readyOf(c *v1alpha1.StorageCluster) metav1.ConditionStatus {
	for _, condition := range c.Status.Conditions {
		if condition.Type == v1alpha1.ConditionReady {
			return condition.Status
		}
	}
	return metav1.ConditionUnknown
}
