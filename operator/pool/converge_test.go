package pool_test

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"sync"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/pool"
	"github.com/cairn-storage/cairn/tests/controlplane"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

// looks is far more than any of these pools needs.
const looks = 20

// site is a StorageCluster that is Ready, and the operator's looks at its pools.
type site struct {
	*simulation.World
	t     *testing.T
	owner *v1alpha1.StorageCluster
	ceph  ceph.Conn
	died  int
}

// newSite has one mon, one mgr and three OSDs: pools need no more.
func newSite(t *testing.T) *site {
	s := &site{World: simulation.New(t), t: t}
	s.owner = s.Cluster("main", func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count, c.Spec.Mgr.Count = 1, 1 })
	for range 60 {
		require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(s.owner), s.owner))
		if meta.IsStatusConditionTrue(s.owner.Status.Conditions, v1alpha1.ConditionReady) {
			break
		}
		r := &cluster.Reconciler{Client: s.Client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
		_, err := r.Reconcile(t.Context(), s.owner)
		require.NoError(t, err)
		s.Step()
		s.Connected(s.owner)
	}
	require.True(t, meta.IsStatusConditionTrue(s.owner.Status.Conditions, v1alpha1.ConditionReady))
	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	s.ceph = conn
	return s
}

// pool makes a BlockPool named like the world, so that its StorageClass is its own.
func (s *site) pool(suffix string, change ...func(*v1alpha1.BlockPoolSpec)) *v1alpha1.BlockPool {
	p := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: s.Namespace + suffix},
		Spec: v1alpha1.BlockPoolSpec{Cluster: "main", StorageClass: &v1alpha1.StorageClassSpec{}}}
	for _, f := range change {
		f(&p.Spec)
	}
	require.NoError(s.t, s.Client.Create(s.t.Context(), p))
	return p
}

// look is one look of the operator at a pool; nil when the pool is gone.
func (s *site) look(p *v1alpha1.BlockPool) *v1alpha1.BlockPool {
	s.Connected(s.owner)
	key := client.ObjectKeyFromObject(p)
	seen := &v1alpha1.BlockPool{}
	if apierrors.IsNotFound(s.Client.Get(s.t.Context(), key, seen)) {
		return nil
	}
	died, err := s.Operator(func() error {
		r := &pool.Reconciler{Client: s.OperatorClient(), Live: s.Client, Connections: s.Connections}
		_, err := r.Reconcile(s.t.Context(), seen)
		return err
	})
	if died || err != nil {
		s.died++
	}
	if apierrors.IsNotFound(s.Client.Get(s.t.Context(), key, seen)) {
		return nil
	}
	return seen
}

func (s *site) converge(p *v1alpha1.BlockPool) *v1alpha1.BlockPool {
	s.t.Helper()
	var seen *v1alpha1.BlockPool
	for range looks {
		seen = s.look(p)
		if c := ready(seen); c != nil && c.Status == metav1.ConditionTrue && c.ObservedGeneration == seen.Generation {
			return seen
		}
	}
	require.Failf(s.t, "not converged", "%+v", seen.Status)
	return nil
}

func ready(p *v1alpha1.BlockPool) *metav1.Condition {
	return meta.FindStatusCondition(p.Status.Conditions, v1alpha1.ConditionReady)
}

func (s *site) edit(p *v1alpha1.BlockPool, change func(*v1alpha1.BlockPoolSpec)) {
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKeyFromObject(p), p))
	change(&p.Spec)
	require.NoError(s.t, s.Client.Update(s.t.Context(), p))
}

func (s *site) class(name string) *storagev1.StorageClass {
	class := &storagev1.StorageClass{}
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Name: name}, class))
	return class
}

func (s *site) inCeph(name string) *ceph.Pool {
	pools, err := s.ceph.Pools(s.t.Context())
	require.NoError(s.t, err)
	for i := range pools {
		if pools[i].Spec.Name == name {
			return &pools[i]
		}
	}
	return nil
}

func (s *site) volume(p *v1alpha1.BlockPool, name string) {
	id, err := s.ceph.PoolID(s.t.Context(), p.Name)
	require.NoError(s.t, err)
	require.NoError(s.t, s.ceph.CreateImage(s.t.Context(), ceph.ImageRef{PoolID: id, Name: name}, ceph.ImageSpec{Size: 1 << 30}))
}

func TestAPoolBecomesAStorageClassThatCanBeUsed(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool("", func(spec *v1alpha1.BlockPoolSpec) {
		spec.Quota = ptr.To(resource.MustParse("5Gi"))
		spec.StorageClass = &v1alpha1.StorageClassSpec{FSType: "xfs", MountOptions: []string{"discard"}, Parameters: map[string]string{"imageFeatures": "layering"}}
	}))

	class := s.class(p.Name)
	require.Equal(t, csidriver.BlockDriver, class.Provisioner)
	require.Equal(t, map[string]string{"clusterID": s.FSID(), "pool": p.Name, "csi.storage.k8s.io/fstype": "xfs", "imageFeatures": "layering"}, class.Parameters)
	require.Equal(t, []string{"discard"}, class.MountOptions)
	require.Equal(t, corev1.PersistentVolumeReclaimDelete, *class.ReclaimPolicy)
	require.True(t, *class.AllowVolumeExpansion)
	require.Equal(t, "false", class.Annotations["storageclass.kubernetes.io/is-default-class"])
	require.Equal(t, ceph.PoolSpec{Name: p.Name, Size: 3, FailureDomain: "host", QuotaBytes: 5 << 30, Application: "rbd"}, s.inCeph(p.Name).Spec)
	require.Equal(t, s.inCeph(p.Name).ID, p.Status.PoolID)
	require.Equal(t, p.Name, p.Status.StorageClass)

	writes := len(s.Writes())
	for range 20 {
		s.look(p)
	}
	require.Empty(t, s.Writes()[writes:])
}

func TestEveryPartOfTheDriverHasAUserOfItsOwnLimitedToThePools(t *testing.T) {
	s := newSite(t)
	one := s.converge(s.pool("-a"))
	two := s.converge(s.pool("-b"))
	users := s.drivers()
	require.Equal(t, []string{"client.csi-controller", "client.csi-node.node1", "client.csi-node.node2", "client.csi-node.node3"}, slices.Sorted(maps.Keys(users)))
	for entity, caps := range users {
		require.Equal(t, ceph.Caps{"mon": "profile rbd", "osd": fmt.Sprintf("profile rbd pool=%s, profile rbd pool=%s", one.Name, two.Name)}, caps, entity)
	}
	secret := s.Secret(csidriver.NodeSecret(s.FSID(), "node2"))
	require.Equal(t, "csi-node.node2", string(secret.Data["user"]))
	key, err := s.ceph.EnsureUser(t.Context(), "client.csi-node.node2", users["client.csi-node.node2"])
	require.NoError(t, err)
	require.Equal(t, key.Reveal(), string(secret.Data["key"]))
}

func TestAPoolThatHoldsVolumesIsNotDeletedAndNamesThem(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	s.volume(p, "pvc-1")
	s.volume(p, "pvc-2")
	require.NoError(t, s.Client.Delete(t.Context(), p))
	p = s.look(p)
	require.Equal(t, v1alpha1.ReasonInUse, ready(p).Reason)
	require.Contains(t, ready(p).Message, "holds 2 volumes (pvc-1, pvc-2): delete their claims first")
	require.NotNil(t, s.inCeph(p.Name))
	require.NotNil(t, s.class(p.Name))

	for _, name := range []string{"pvc-1", "pvc-2"} {
		require.NoError(t, s.ceph.RemoveImage(t.Context(), ceph.ImageRef{PoolID: p.Status.PoolID, Name: name}))
	}
	require.Nil(t, s.look(p))
	require.Nil(t, s.inCeph(p.Name))
	require.True(t, apierrors.IsNotFound(s.Client.Get(t.Context(), client.ObjectKey{Name: p.Name}, &storagev1.StorageClass{})))
}

// A volume that is made while the pool is on its way out stays, with the pool.
func TestAPoolIsLookedIntoOnceMoreWhenNobodyCanFindItAnyMore(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	require.NoError(t, s.Client.Delete(t.Context(), p))
	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p))
	late := interceptor.NewClient(s.Client, interceptor.Funcs{Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
		if _, is := o.(*storagev1.StorageClass); is {
			s.volume(p, "pvc-late")
		}
		return c.Delete(ctx, o, opts...)
	}})
	r := &pool.Reconciler{Client: late, Live: s.Client, Connections: s.Connections}
	_, err := r.Reconcile(t.Context(), p)
	require.NoError(t, err)
	require.NotNil(t, s.inCeph(p.Name))
	p = s.look(p)
	require.Equal(t, v1alpha1.ReasonInUse, ready(p).Reason)
	require.Contains(t, ready(p).Message, "pvc-late")
}

// An operator that ends while it removes a pool does not leave Ceph willing to delete others.
func TestThatPoolsMayBeDeletedIsTakenBack(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	require.NoError(t, s.ceph.RemovePool(t.Context(), p.Name))
	require.NoError(t, s.ceph.SetConfig(t.Context(), "mon", "mon_allow_pool_delete", "true"))
	require.NoError(t, s.Client.Delete(t.Context(), p))
	require.Nil(t, s.look(p))
	options, err := s.ceph.Config(t.Context())
	require.NoError(t, err)
	require.NotContains(t, fmt.Sprint(options), "mon_allow_pool_delete")
}

// heldReader reads no BlockPool once it is reached, until it may.
type heldReader struct {
	client.Reader
	reached, may chan struct{}
}

func (h heldReader) Get(ctx context.Context, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
	if _, is := o.(*v1alpha1.BlockPool); is {
		h.reached <- struct{}{}
		<-h.may
	}
	return h.Reader.Get(ctx, key, o, opts...)
}

// Each look rests on all that the one before did: with the users of the driver, which the pools
// of a cluster have in common. Another cluster's pools do not wait for it.
func TestThePoolsOfAClusterAreLookedAtInTurn(t *testing.T) {
	s := newSite(t)
	first, second := s.pool("-a"), s.pool("-b")
	elsewhere := s.pool("-c", func(spec *v1alpha1.BlockPoolSpec) { spec.Cluster = "another" })
	held := heldReader{s.Client, make(chan struct{}, 2), make(chan struct{})}
	r := &pool.Reconciler{Client: s.Client, Live: held, Connections: s.Connections}
	var group sync.WaitGroup
	group.Go(func() { _, _ = r.Reconcile(t.Context(), first) })
	<-held.reached
	result, err := r.Reconcile(t.Context(), second)
	require.NoError(t, err)
	require.NotZero(t, result.RequeueAfter)
	require.Empty(t, held.reached, "it was not looked at")
	group.Go(func() { _, _ = r.Reconcile(t.Context(), elsewhere) })
	<-held.reached
	close(held.may)
	group.Wait()
	_, err = r.Reconcile(t.Context(), second)
	require.NoError(t, err)
	require.NotEmpty(t, held.reached, "now it is its turn")
}

func TestAPoolWhoseDeletionWaitsForItsVolumesKeepsItsUsers(t *testing.T) {
	s := newSite(t)
	full, other := s.converge(s.pool("-a")), s.pool("-b")
	s.volume(full, "pvc-1")
	require.NoError(t, s.Client.Delete(t.Context(), full))
	s.look(full)
	s.converge(other)
	require.Contains(t, s.Ceph.Users()["client.csi-node.node1"]["osd"], "pool="+full.Name)

	require.NoError(t, s.ceph.RemoveImage(t.Context(), ceph.ImageRef{PoolID: full.Status.PoolID, Name: "pvc-1"}))
	require.Nil(t, s.look(full))
	s.look(other)
	require.NotContains(t, s.Ceph.Users()["client.csi-node.node1"]["osd"], "pool="+full.Name, "and loses them with the pool")
}

func TestAForeignStorageClassIsLeftAlone(t *testing.T) {
	s := newSite(t)
	foreign := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace}, Provisioner: "example.com/other"}
	require.NoError(t, s.Client.Create(t.Context(), foreign))
	p := s.look(s.pool(""))
	require.Equal(t, v1alpha1.ReasonNameTaken, ready(p).Reason)
	require.Contains(t, ready(p).Message, fmt.Sprintf("spec.storageClass.name: a StorageClass %q that this pool did not make exists", p.Name))
	require.Equal(t, "example.com/other", s.class(p.Name).Provisioner)

	require.NoError(t, s.Client.Delete(t.Context(), p))
	require.Nil(t, s.look(p))
	require.Equal(t, foreign.UID, s.class(p.Name).UID)
}

func TestAChangedParameterReplacesTheStorageClass(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	before := s.class(p.Name)
	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.StorageClass.FSType = "xfs" })
	s.converge(p)
	after := s.class(p.Name)
	require.NotEqual(t, before.UID, after.UID)
	require.Equal(t, "xfs", after.Parameters["csi.storage.k8s.io/fstype"])
}

func TestWhatKubernetesLetsOneChangeIsChangedInPlace(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	before := s.class(p.Name)
	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.StorageClass.MountOptions = []string{"noatime"} })
	s.converge(p)
	after := s.class(p.Name)
	require.Equal(t, before.UID, after.UID)
	require.Equal(t, []string{"noatime"}, after.MountOptions)
}

func TestAQuotaIsSetChangedAndTakenAway(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	for _, quota := range []string{"1Gi", "2Gi", ""} {
		s.edit(p, func(spec *v1alpha1.BlockPoolSpec) {
			spec.Quota = nil
			if quota != "" {
				spec.Quota = ptr.To(resource.MustParse(quota))
			}
		})
		p = s.converge(p)
		var want int64
		if p.Spec.Quota != nil {
			want = p.Spec.Quota.Value()
		}
		require.Equal(t, want, s.inCeph(p.Name).Spec.QuotaBytes)
	}
}

func TestAPoolThatCannotBeMadeSaysWhy(t *testing.T) {
	s := newSite(t)
	for name, test := range map[string]struct {
		change func(*v1alpha1.BlockPoolSpec)
		reason string
		says   []string
	}{
		"no such cluster": {func(spec *v1alpha1.BlockPoolSpec) { spec.Cluster = "other" }, v1alpha1.ReasonClusterNotFound,
			[]string{"spec.cluster", `no StorageCluster "other"`}},
		"more replicas than hosts": {func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 4 }, v1alpha1.ReasonTooFewDomains,
			[]string{"spec.replicas", "4 different hosts", "there are 3"}},
		"no OSD of the class": {func(spec *v1alpha1.BlockPoolSpec) { spec.DeviceClass = "nvme" }, v1alpha1.ReasonTooFewDomains,
			[]string{`device class "nvme"`, "there are 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			p := s.pool(fmt.Sprintf("-%d", len(name)), test.change)
			seen := s.look(p)
			require.Equal(t, test.reason, ready(seen).Reason)
			for _, words := range test.says {
				require.Contains(t, ready(seen).Message, words)
			}
			require.NoError(t, s.Client.Delete(t.Context(), p))
			require.Nil(t, s.look(p), "and it can be deleted")
		})
	}
	t.Run("a cluster without an OSD", func(t *testing.T) {
		s.Cluster("bare")
		seen := s.look(s.pool("-bare", func(spec *v1alpha1.BlockPoolSpec) { spec.Cluster = "bare" }))
		require.Equal(t, v1alpha1.ReasonClusterNotReady, ready(seen).Reason)
	})
}

func TestDisturbedAtAnyWriteAPoolEndsTheSame(t *testing.T) {
	undisturbed := newSite(t)
	start := len(undisturbed.Writes())
	undisturbed.converge(undisturbed.pool(""))
	writes := undisturbed.Writes()[start:]
	for _, disturb := range []struct {
		name string
		at   func(s *site, n int)
	}{{"killed", func(s *site, n int) { s.KillAt(n) }}, {"answer lost", func(s *site, n int) { s.LoseAnswerAt(n) }}} {
		s := newSite(t)
		for n := 1; n <= len(writes); n++ {
			t.Run(fmt.Sprintf("%s %02d", disturb.name, n), func(t *testing.T) {
				forget(t, s)
				disturb.at(s, len(s.Writes())+n)
				p := s.converge(s.pool(fmt.Sprintf("-%d", n)))
				require.NotNil(t, s.inCeph(p.Name))
				require.Len(t, s.drivers(), 4)
				require.Equal(t, p.Name, s.class(p.Name).Parameters["pool"])
				for entity, caps := range s.drivers() {
					require.Contains(t, caps["osd"], "pool="+p.Name, entity)
				}
			})
		}
		require.NotZero(t, s.died)
	}
}

// drivers are the users of the CSI driver.
func (s *site) drivers() map[string]ceph.Caps {
	users := s.Ceph.Users()
	maps.DeleteFunc(users, func(entity string, _ ceph.Caps) bool { return !strings.HasPrefix(entity, "client.csi-") })
	return users
}

// forget removes the driver's users, so that each pool makes them anew.
func forget(t *testing.T, s *site) {
	for entity := range s.drivers() {
		require.NoError(t, s.ceph.RemoveUser(t.Context(), entity))
	}
	var secrets corev1.SecretList
	require.NoError(t, s.Client.List(t.Context(), &secrets, client.InNamespace(s.Namespace)))
	for i := range secrets.Items {
		if strings.HasPrefix(secrets.Items[i].Name, "csi-") {
			require.NoError(t, s.Client.Delete(t.Context(), &secrets.Items[i]))
		}
	}
}
