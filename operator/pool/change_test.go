package pool_test

import (
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestAPoolIsChangedInPlace(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool(""))
	id := p.Status.PoolID
	for name, test := range map[string]struct {
		change func(*v1alpha1.BlockPoolSpec)
		is     func(ceph.PoolSpec) bool
	}{
		"fewer replicas": {func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 2 }, func(spec ceph.PoolSpec) bool { return spec.Size == 2 }},
		"more replicas":  {func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 3 }, func(spec ceph.PoolSpec) bool { return spec.Size == 3 }},
		"another failure domain": {func(spec *v1alpha1.BlockPoolSpec) { spec.FailureDomain = "osd" },
			func(spec ceph.PoolSpec) bool { return spec.FailureDomain == "osd" }},
		"compression": {func(spec *v1alpha1.BlockPoolSpec) { spec.Compression = "aggressive" },
			func(spec ceph.PoolSpec) bool { return spec.Compression == "aggressive" }},
		"no compression": {func(spec *v1alpha1.BlockPoolSpec) { spec.Compression = "none" }, func(spec ceph.PoolSpec) bool { return spec.Compression == "" }},
	} {
		t.Run(name, func(t *testing.T) {
			s.edit(p, test.change)
			p = s.converge(p)
			require.True(t, test.is(s.inCeph(p.Name).Spec))
			require.Equal(t, id, s.inCeph(p.Name).ID)
			writes := len(s.Writes())
			for range 5 {
				s.look(p)
			}
			require.Empty(t, s.Writes()[writes:])
		})
	}
}

func TestAChangeThatCannotWorkIsRefusedWithTheFigures(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*v1alpha1.BlockPoolSpec)
		reason string
		says   []string
	}{
		"more replicas than hosts": {func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 4 }, v1alpha1.ReasonTooFewDomains, []string{"4 different hosts; there are 3"}},
		"a class that no OSD has":  {func(spec *v1alpha1.BlockPoolSpec) { spec.DeviceClass = "nvme" }, v1alpha1.ReasonTooFewDomains, []string{`device class "nvme"`, "there are 0"}},
		"zones that no node names": {func(spec *v1alpha1.BlockPoolSpec) { spec.FailureDomain = "zone" }, v1alpha1.ReasonTooFewDomains, []string{"3 different zones; there are 0"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t)
			p := s.converge(s.pool(""))
			before := s.inCeph(p.Name).Spec
			s.edit(p, test.change)
			p = s.look(p)
			require.Equal(t, test.reason, ready(p).Reason)
			for _, words := range test.says {
				require.Contains(t, ready(p).Message, words)
			}
			require.Equal(t, before, s.inCeph(p.Name).Spec)
		})
	}
}

func TestAChangeThatMovesDataWaitsForWhatIsOnItsWay(t *testing.T) {
	s := newSite(t)
	p := s.converge(s.pool("", func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 2 }))
	s.Ceph.SetPGs(map[string]int{"active+clean": 30, "active+remapped+backfilling": 2})
	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas, spec.Compression = 3, "passive" })
	p = s.look(p)
	require.Equal(t, v1alpha1.ReasonNotSafeToChange, ready(p).Reason)
	require.Contains(t, ready(p).Message, "spec.replicas: 2 to 3: waits until the data that is on its way has arrived (2 PGs are active+remapped+backfilling)")
	require.Equal(t, 2, s.inCeph(p.Name).Spec.Size)

	s.Ceph.SetPGs(map[string]int{"active+clean": 31, "active+undersized+degraded": 1})
	p = s.look(p)
	require.Equal(t, 3, s.inCeph(p.Name).Spec.Size, "what only lacks a place does not hold it up")

	s.Ceph.SetPGs(map[string]int{"active+clean": 30, "active+recovering": 2})
	p = s.look(p)
	require.Equal(t, v1alpha1.ReasonPlacingData, ready(p).Reason)
	require.Equal(t, "as specified; Ceph is still placing data: 2 PGs are active+recovering", ready(p).Message)
	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 2 })
	s.look(p)
	require.Equal(t, 2, s.inCeph(p.Name).Spec.Size, "fewer replicas need not wait")
}

func TestAPoolThatIsToBeDestroyedWithItsClusterNeedsNoCeph(t *testing.T) {
	for _, destroy := range []bool{true, false} {
		t.Run(fmt.Sprintf("destroy %t", destroy), func(t *testing.T) {
			s := newSite(t)
			p := s.converge(s.pool(""))
			s.volume(p, "pvc-1")
			require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(s.owner), s.owner))
			if destroy {
				s.owner.Spec.Deletion = v1alpha1.DeletionSpec{Policy: v1alpha1.DeletionDestroy, Confirmation: "yes-destroy-all-data-of-main"}
				require.NoError(t, s.Client.Update(t.Context(), s.owner))
			}
			require.NoError(t, s.Client.Delete(t.Context(), s.owner))
			require.NoError(t, s.Client.Delete(t.Context(), p))
			require.Equal(t, v1alpha1.ReasonInUse, ready(s.look(p)).Reason, "while Ceph answers, its volumes count")
			s.unreachable()
			require.Equal(t, destroy, s.look(p) == nil)
		})
	}
}

// unreachable stops all mons.
func (s *site) unreachable() {
	require.NoError(s.t, s.Client.DeleteAllOf(s.t.Context(), &appsv1.Deployment{}, client.InNamespace(s.Namespace)))
	s.Step()
	s.Restart()
}
