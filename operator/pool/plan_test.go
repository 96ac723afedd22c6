package pool

import (
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestThePlanOfAPoolSaysWhatItRisks(t *testing.T) {
	for name, c := range map[string]struct {
		change func(*v1alpha1.BlockPoolSpec)
		step   string
		risk   v1alpha1.Risk
	}{
		"more replicas":           {func(s *v1alpha1.BlockPoolSpec) { s.Replicas = 4 }, "replicas", v1alpha1.RiskMovesData},
		"fewer replicas":          {func(s *v1alpha1.BlockPoolSpec) { s.Replicas = 2 }, "replicas", v1alpha1.RiskReducesRedundancy},
		"a larger failure domain": {func(s *v1alpha1.BlockPoolSpec) { s.FailureDomain = "zone" }, "placement", v1alpha1.RiskMovesData},
		"a smaller one":           {func(s *v1alpha1.BlockPoolSpec) { s.FailureDomain = "osd" }, "placement", v1alpha1.RiskReducesRedundancy},
		"another device class":    {func(s *v1alpha1.BlockPoolSpec) { s.DeviceClass = "ssd" }, "placement", v1alpha1.RiskMovesData},
		"a quota":                 {func(s *v1alpha1.BlockPoolSpec) { s.Quota = ptr.To(resource.MustParse("1Gi")) }, "quota", v1alpha1.RiskNone},
	} {
		t.Run(name, func(t *testing.T) {
			pool := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Spec: v1alpha1.BlockPoolSpec{Replicas: 3, FailureDomain: "host"}}
			now := &ceph.Pool{Spec: spec(pool)}
			require.Empty(t, Plan(now, pool))
			c.change(&pool.Spec)
			steps := Plan(now, pool)
			require.Len(t, steps, 1)
			require.Equal(t, c.step, steps[0].Name)
			require.Equal(t, c.risk, steps[0].Risk)
			require.Equal(t, c.risk.Held(), steps[0].NeedsApproval)
			v1alpha1.Approve(pool, c.step)
			require.False(t, Plan(now, pool)[0].NeedsApproval)
		})
	}
	t.Run("an erasure-coded pool is two", func(t *testing.T) {
		pool := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Name: "archive"}, Spec: v1alpha1.BlockPoolSpec{FailureDomain: "host",
			ErasureCoded: &v1alpha1.ErasureCoding{DataChunks: 4, CodingChunks: 2}}}
		o := &Observed{Pool: pool, Cluster: &v1alpha1.StorageCluster{}}
		steps, held := o.plan()
		require.NoError(t, held)
		require.Len(t, steps, 2)
		require.Equal(t, "make pool archive.data with 4 data and 2 coding chunks of each object, each in its own host", steps[0].What)
		require.Equal(t, "make pool archive with 3 replicas of the volumes' metadata, each in its own host", steps[1].What)
		o.InCeph, o.Images = &ceph.Pool{Spec: spec(pool)}, &ceph.Pool{Spec: imagesSpec(pool)}
		steps, _ = o.plan()
		require.Empty(t, steps)
		o.Images.Spec.DataPool = ""
		steps, _ = o.plan()
		require.Len(t, steps, 1)
		require.Equal(t, v1alpha1.RiskNone, steps[0].Risk)
	})
	t.Run("a change that is not known is taken for the worst", func(t *testing.T) {
		pool := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Name: "fast"}}
		now := &ceph.Pool{Spec: spec(pool)}
		now.Spec.Name = "another"
		require.Equal(t, v1alpha1.RiskDestroys, Plan(now, pool)[0].Risk)
	})
}
