package pool_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func coded(data, coding int32) func(*v1alpha1.BlockPoolSpec) {
	return func(spec *v1alpha1.BlockPoolSpec) {
		spec.ErasureCoded = &v1alpha1.ErasureCoding{DataChunks: data, CodingChunks: coding}
	}
}

// inCoded is a volume as the driver makes it in an erasure-coded pool, and its bytes.
func (s *site) inCoded(p *v1alpha1.BlockPool, name string, bytes int) {
	ref := ceph.ImageRef{PoolID: p.Status.PoolID, Name: name}
	usage, err := s.ceph.PoolUsage(s.t.Context(), ref.PoolID)
	require.NoError(s.t, err)
	require.Equal(s.t, p.Name+".data", usage.DataPool)
	require.NoError(s.t, s.ceph.CreateImage(s.t.Context(), ref, ceph.ImageSpec{Size: 1 << 30, DataPool: usage.DataPool}))
	opened, err := s.ceph.OpenImage(s.t.Context(), ref, ceph.OpenOptions{})
	require.NoError(s.t, err)
	_, err = opened.WriteAt(make([]byte, bytes), 0)
	require.NoError(s.t, err)
	require.NoError(s.t, opened.Close())
}

func TestAnErasureCodedPoolIsTwoPoolsInCephAndOneToItsUser(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool("", coded(2, 1), func(spec *v1alpha1.BlockPoolSpec) {
		spec.Quota, spec.Compression = ptr.To(resource.MustParse("5Gi")), "aggressive"
	}))
	require.Equal(t, ceph.PoolSpec{Name: p.Name + ".data", Size: 3, DataChunks: 2, CodingChunks: 1, FailureDomain: "host",
		QuotaBytes: 5 << 30, Compression: "aggressive", Application: "rbd"}, s.inCeph(p.Name+".data").Spec)
	require.Equal(t, ceph.PoolSpec{Name: p.Name, Size: 3, DataPool: p.Name + ".data", FailureDomain: "host", Application: "rbd"}, s.inCeph(p.Name).Spec)
	require.Equal(t, map[string]string{"clusterID": s.FSID(), "pool": p.Name, "csi.storage.k8s.io/fstype": "ext4"}, s.class(p.Name).Parameters)
	for entity, caps := range s.drivers() {
		require.Equal(t, fmt.Sprintf("profile rbd pool=%s, profile rbd pool=%s.data", p.Name, p.Name), caps["osd"], entity)
	}
	require.Equal(t, s.inCeph(p.Name).ID, p.Status.PoolID)
	require.Equal(t, "2+1 chunks", p.Status.Redundancy)

	s.inCoded(p, "pvc-1", 8<<20)
	p = s.look(p)
	require.Equal(t, "8Mi", p.Status.Stored.String())
	require.Equal(t, int64(5<<30-8<<20), p.Status.Available.Value())
	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.Quota, spec.Compression = nil, "none" })
	s.converge(p)
	require.Zero(t, s.inCeph(p.Name+".data").Spec.QuotaBytes)
	require.Empty(t, s.inCeph(p.Name+".data").Spec.Compression)
	writes := len(s.Writes())
	for range 20 {
		s.look(p)
	}
	require.Empty(t, s.Writes()[writes:])

	require.NoError(t, s.Client.Delete(t.Context(), p))
	p = s.look(p)
	require.Equal(t, v1alpha1.ReasonInUse, ready(p).Reason)
	require.NotNil(t, s.inCeph(p.Name+".data"))
	require.NoError(t, s.ceph.RemoveImage(t.Context(), ceph.ImageRef{PoolID: p.Status.PoolID, Name: "pvc-1"}))
	require.Nil(t, s.look(p))
	require.Nil(t, s.inCeph(p.Name))
	require.Nil(t, s.inCeph(p.Name+".data"))
}

func TestThePoolOfImagesSurvivesWhatTheDataDoes(t *testing.T) {
	s := newSite(t)
	p := s.pool("", coded(2, 3), func(spec *v1alpha1.BlockPoolSpec) { spec.FailureDomain = "osd" })
	require.Contains(t, ready(s.look(p)).Message, "spec.erasureCoded: 2 data and 3 coding chunks need OSDs in 5 different osds; there are 3. Add OSDs")
	require.Equal(t, v1alpha1.ReasonTooFewDomains, ready(s.look(p)).Reason)
	for id := 3; id < 5; id++ {
		key, err := ceph.NewLegacyKey(s.owner.CreationTimestamp.Time)
		require.NoError(t, err)
		made, err := s.ceph.NewOSD(t.Context(), fmt.Sprintf("more-%d", id), key, "hdd")
		require.NoError(t, err)
		s.Ceph.Boot(made, "node1", 1<<40)
	}
	s.converge(p)
	require.Equal(t, 5, s.inCeph(p.Name+".data").Spec.Size)
	require.Equal(t, 4, s.inCeph(p.Name).Spec.Size)
}

func TestRedundancyIsGivenInOneWayAndCodingStays(t *testing.T) {
	s := newSite(t)
	both := &v1alpha1.BlockPool{}
	both.Namespace, both.Name, both.Spec.Cluster, both.Spec.Replicas = s.Namespace, s.Namespace+"-both", "main", 3
	coded(2, 1)(&both.Spec)
	require.ErrorContains(t, s.Client.Create(t.Context(), both), "spec.erasureCoded: a pool has either erasureCoded or replicas, not both")
	for says, change := range map[string]func(*v1alpha1.BlockPoolSpec){
		"spec.erasureCoded.dataChunks: must be at least 2":   coded(1, 1),
		"spec.erasureCoded.codingChunks: must be at least 1": coded(2, 0),
	} {
		bad := both.DeepCopy()
		bad.Spec.Replicas = 0
		change(&bad.Spec)
		require.ErrorContains(t, s.Client.Create(t.Context(), bad), says)
	}
	p, replicated := s.converge(s.pool("-coded", coded(2, 1))), s.converge(s.pool("-replicated"))
	require.Zero(t, replicated.Spec.Replicas)
	require.Equal(t, "3 replicas", replicated.Status.Redundancy)
	require.Equal(t, 3, s.inCeph(replicated.Name).Spec.Size)
	const anew = "make another pool and move the volumes"
	s.refused(p, coded(2, 2), "spec.erasureCoded: Ceph cannot change the chunks of a pool; "+anew)
	s.refused(p, func(spec *v1alpha1.BlockPoolSpec) { spec.ErasureCoded = nil }, "spec.erasureCoded: Ceph cannot change a pool between replicas and erasure coding; "+anew)
	s.refused(replicated, coded(2, 1), "spec.erasureCoded: Ceph cannot change a pool between")
	s.refused(p, func(spec *v1alpha1.BlockPoolSpec) { spec.FailureDomain = "osd" }, "spec.failureDomain: cannot be changed in an erasure-coded pool; "+anew)
	s.refused(p, func(spec *v1alpha1.BlockPoolSpec) { spec.DeviceClass = "ssd" }, "spec.deviceClass: cannot be changed in an erasure-coded pool; "+anew)
}

func TestAPoolInCephThatIsNotTheBlockPoolsIsLeftAlone(t *testing.T) {
	for name, test := range map[string]struct {
		there ceph.PoolSpec
		pool  []func(*v1alpha1.BlockPoolSpec)
		says  string
	}{
		"replicated": {ceph.PoolSpec{Size: 3, FailureDomain: "host"}, []func(*v1alpha1.BlockPoolSpec){coded(2, 1)}, "that is not erasure-coded exists in Ceph. Choose another name"},
		"data elsewhere": {ceph.PoolSpec{Size: 3, FailureDomain: "host", DataPool: "other"}, nil,
			"that keeps its data erasure-coded exists in Ceph, and spec.erasureCoded is not set"},
		"other chunks": {ceph.PoolSpec{Name: ".data", Size: 5, DataChunks: 3, CodingChunks: 2, FailureDomain: "host"}, []func(*v1alpha1.BlockPoolSpec){coded(2, 1)},
			"its chunks are 3+2, not those of spec.erasureCoded"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			test.there.Name = s.Namespace + test.there.Name
			require.NoError(t, s.ceph.EnsurePool(t.Context(), test.there))
			p := s.look(s.pool("", test.pool...))
			require.Equal(t, v1alpha1.ReasonNameTaken, ready(p).Reason)
			require.Contains(t, ready(p).Message, test.says)
			require.NoError(t, s.Client.Delete(t.Context(), p))
			require.Nil(t, s.look(p))
			require.Equal(t, test.there, s.inCeph(test.there.Name).Spec)
		})
	}
}

func TestAPoolWhoseDataIsGoneIsNotMadeAnew(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool("", coded(2, 1)))
	require.NoError(t, s.ceph.RemovePool(t.Context(), p.Name+".data"))
	p = s.look(p)
	require.Equal(t, v1alpha1.ReasonDataLost, ready(p).Reason)
	require.Nil(t, s.inCeph(p.Name+".data"))
	require.NoError(t, s.Client.Delete(t.Context(), p))
	require.Nil(t, s.look(p))
	require.Nil(t, s.inCeph(p.Name))
}

func TestDisturbedAtAnyWriteAnErasureCodedPoolComesAndGoesTheSame(t *testing.T) {
	undisturbed := newSite(t)
	start := len(undisturbed.Writes())
	gone := func(s *site, p *v1alpha1.BlockPool) {
		require.NoError(s.t, s.Client.Delete(s.t.Context(), p))
		for range looks {
			if s.look(p) == nil {
				return
			}
		}
		require.Fail(s.t, "not gone")
	}
	gone(undisturbed, undisturbed.converge(undisturbed.pool("", coded(2, 1))))
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
				p := s.converge(s.pool(fmt.Sprintf("-%d", n), coded(2, 1)))
				require.Equal(t, p.Name+".data", s.inCeph(p.Name).Spec.DataPool)
				require.Equal(t, 2, s.inCeph(p.Name+".data").Spec.DataChunks)
				for entity, caps := range s.drivers() {
					require.Contains(t, caps["osd"], "pool="+p.Name+".data", entity)
				}
				gone(s, p)
				require.Nil(t, s.inCeph(p.Name))
				require.Nil(t, s.inCeph(p.Name+".data"))
				require.Error(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p))
			})
		}
		require.NotZero(t, s.died)
	}
}
