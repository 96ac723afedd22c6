package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// fast asks for a set of OSDs on claims of all nodes.
func fast(count int32, skip ...int32) func(*v1alpha1.StorageCluster) {
	return func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Claims = []v1alpha1.StorageClaims{{Name: "fast", Count: count, Size: resource.MustParse("10Gi"), Portable: true, Skip: skip}}
	}
}

// onClaims is a converged cluster with the first disk of each node, and some claims.
func onClaims(t *testing.T, change func(*v1alpha1.StorageCluster)) *site {
	s := newSite(t, change)
	s.converge()
	s.looks(2)
	return s
}

// onClaim is what Ceph knows of the OSD on a claim; nil is nothing.
func (s *site) onClaim(name string) *ceph.OSD {
	uuid := s.OSDs()["claimed/"+name]
	for _, known := range s.osds() {
		if uuid != "" && known.UUID == uuid {
			return &known
		}
	}
	return nil
}

func (s *site) claim(name string) *corev1.PersistentVolumeClaim {
	var claim corev1.PersistentVolumeClaim
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: name}, &claim))
	return &claim
}

func (s *site) claims() (names []string) {
	var claims corev1.PersistentVolumeClaimList
	require.NoError(s.t, s.Client.List(s.t.Context(), &claims, client.InNamespace(s.Namespace)))
	for i := range claims.Items {
		names = append(names, claims.Items[i].Name)
	}
	return names
}

// beginClaims adds an OSD on a claim, and removes it again.
func beginClaims(t *testing.T) (*site, func()) {
	s := newSite(t)
	s.converge()
	s.look()
	return s, func() {
		s.edit(fast(1))
		s.looksUntil("it serves", func() bool { known := s.onClaim("main-fast-0"); return known != nil && known.Up })
		require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
		s.edit(fast(0))
		s.looksUntil("nothing to be left", func() bool { return len(s.claims()) == 0 && s.onClaim("main-fast-0") == nil })
		require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
	}
}

func TestTheSimulationSeesAClaimDeletedBeforeItsOSDIsPurged(t *testing.T) {
	s := onClaims(t, fast(1))
	hasty := interceptor.Funcs{Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
		if d, ok := o.(*appsv1.Deployment); ok && d.Annotations["cairn.storage/claim"] != "" {
			gone := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: d.Namespace, Name: d.Annotations["cairn.storage/claim"]}}
			require.NoError(t, c.Delete(ctx, gone))
		}
		return c.Delete(ctx, o, opts...)
	}}
	s.client, s.Planted = interceptor.NewClient(s.OperatorClient().(client.WithWatch), hasty), true
	s.edit(fast(0))
	s.looks(20)
	require.Contains(t, fmt.Sprint(s.Violations), "claim main-fast-0 was deleted while Ceph knows osd.")
}

func TestOSDsOnClaims(t *testing.T) {
	t.Run("a portable one is a host of its own, and takes its place along to another node", func(t *testing.T) {
		s := onClaims(t, fast(1))
		require.Equal(t, "4/4", s.cluster().Status.OSDs.Summary)
		before := *s.onClaim("main-fast-0")
		require.Equal(t, "main-fast-0", before.Host)
		s.Drain(true, "node1")
		s.looksUntil("node1 is empty", func() bool {
			return slices.Contains(s.Evicted(), fmt.Sprintf("node1/osd-%d", before.ID)) && len(stored(s)["node1"]) == 3
		})
		s.looksUntil("it serves again", func() bool { known := s.onClaim("main-fast-0"); return known != nil && *known == before })
		require.NotContains(t, s.noOut(), "main-fast-0")
		require.NotContains(t, s.Writes(), "ceph SetOSDOut")
		s.Uncordon("node1")
		s.converge()
		require.Equal(t, before, *s.onClaim("main-fast-0"))
		require.Empty(t, s.Broken())
	})
	t.Run("one that is bound to a node counts to it", func(t *testing.T) {
		s := onClaims(t, func(c *v1alpha1.StorageCluster) {
			fast(2)(c)
			c.Spec.Storage.Claims[0].Portable, c.Spec.Storage.Claims[0].StorageClassName = false, ptr.To("local")
		})
		require.Equal(t, []string{"node1", "node2"}, []string{s.onClaim("main-fast-0").Host, s.onClaim("main-fast-1").Host})
	})
	t.Run("one that should be bound to a node, and is not, does not start", func(t *testing.T) {
		s := newSite(t, func(c *v1alpha1.StorageCluster) {
			fast(1)(c)
			c.Spec.Storage.Claims[0].Portable = false
		})
		s.looksUntil("it is named", func() bool {
			b := s.cluster().Status.Blocker
			return b != nil && b.Reason == v1alpha1.ReasonClaimNotUsable
		})
		require.Contains(t, s.cluster().Status.Blocker.Message, "the OSD of claim main-fast-0 does not start: its PersistentVolume pv-")
		require.False(t, s.onClaim("main-fast-0") != nil && s.onClaim("main-fast-0").Up)
	})
	t.Run("a claim that grows is used as it is after a restart, and nothing else restarts", func(t *testing.T) {
		grows := "grows-" // of all worlds
		s := newSite(t, func(c *v1alpha1.StorageCluster) {
			grows += c.Namespace
			fast(1)(c)
			c.Spec.Storage.Claims[0].StorageClassName = &grows
		})
		class := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: grows}, Provisioner: "simulated", AllowVolumeExpansion: ptr.To(true)}
		require.NoError(t, s.Client.Create(t.Context(), class))
		s.converge()
		s.looks(2)
		generations := s.generations()
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.Claims[0].Size = resource.MustParse("20Gi") })
		s.converge()
		s.looks(3)
		require.Equal(t, "20Gi", s.claim("main-fast-0").Status.Capacity.Storage().String())
		id := fmt.Sprintf("osd-%d", s.onClaim("main-fast-0").ID)
		for name, generation := range s.generations() {
			if name == id {
				require.Equal(t, generations[name]+1, generation)
				continue
			}
			require.Equal(t, generations[name], generation, name)
		}
	})
	t.Run("a claim of that name which is another's is left alone", func(t *testing.T) {
		s := newSite(t)
		s.converge()
		foreign := &corev1.PersistentVolumeClaim{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "main-fast-0"}, Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce}, Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{"storage": resource.MustParse("1Gi")}}}}
		require.NoError(t, s.Client.Create(t.Context(), foreign))
		s.edit(fast(1))
		s.looks(5)
		require.Equal(t, v1alpha1.ReasonStepFailed, s.cluster().Status.Blocker.Reason)
		require.Contains(t, s.cluster().Status.Blocker.Message, "there is a PersistentVolumeClaim main-fast-0 that was not made for this cluster")
		require.Len(t, s.OSDs(), 3)
	})
}

// A claim that is deleted under its OSD is named, and no empty one takes its place; another
// index does, once the spec lets go of it.
func TestAClaimThatIsLostIsNamedAndNeverMadeAnew(t *testing.T) {
	s := onClaims(t, fast(1))
	old := *s.onClaim("main-fast-0")
	s.DeleteClaim("main-fast-0")
	s.looks(3)
	require.Equal(t, v1alpha1.ReasonClaimLost, s.cluster().Status.Blocker.Reason)
	require.Contains(t, s.cluster().Status.Blocker.Message, fmt.Sprintf("claim main-fast-0 of osd.%d is being deleted since", old.ID))

	require.NoError(t, s.Client.Delete(t.Context(), &appsv1.Deployment{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: fmt.Sprintf("main-osd-%d", old.ID)}}))
	s.Step()
	s.looks(10)
	require.Empty(t, s.claims())
	require.Equal(t, v1alpha1.ReasonClaimLost, s.cluster().Status.Blocker.Reason)
	require.Contains(t, s.cluster().Status.Blocker.Message, fmt.Sprintf("claim main-fast-0 of osd.%d was deleted. No new one takes its place", old.ID))

	s.edit(fast(1, 0))
	s.looksUntil("another one serves", func() bool { known := s.onClaim("main-fast-1"); return known != nil && known.Up })
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.looks(3)
	require.Equal(t, []string{"main-fast-1"}, s.claims())
	require.Len(t, s.osds(), 4)
}

func TestClaimsStayWithRetainAndGoWithDestroy(t *testing.T) {
	s := onClaims(t, fast(1))
	uid := s.claim("main-fast-0").UID
	s.delete()
	s.looksUntilGone()
	require.Equal(t, uid, s.claim("main-fast-0").UID)

	s.Cluster(s.name, fast(1), func(c *v1alpha1.StorageCluster) {
		c.Spec.Deletion = v1alpha1.DeletionSpec{Policy: v1alpha1.DeletionDestroy, Confirmation: "yes-destroy-all-data-of-main"}
	})
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	require.Equal(t, uid, s.claim("main-fast-0").UID)
	s.delete()
	s.looksUntilGone()
	s.Step()
	require.Empty(t, s.claims())
}
