package cluster_test

import (
	"fmt"
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/osd"
)

// fourOSDs is a converged cluster with a second disk on node1, and what takes
// that disk out of the spec.
func fourOSDs(t *testing.T) *site {
	s := newSite(t, func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.look() // the keyrings of OSDs that are up say so
	return s
}

func (s *site) takeOut() {
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
	})
}

// known is what Ceph knows of the OSD on node1's second disk; nil is nothing.
func (s *site) known() *ceph.OSD {
	conn, err := s.Ceph.Connect(s.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(s.t, err)
	osds, err := conn.OSDs(s.t.Context())
	require.NoError(s.t, err)
	for i := range osds {
		if osds[i].UUID == s.OSDs()["node1/disk2"] {
			return &osds[i]
		}
	}
	return nil
}

// left are the Deployments and Secrets of the OSD on node1's second disk.
func (s *site) left() (left []string) {
	uuid := osd.UUID(s.FSID(), "node1", "disk2")
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.SecretList{}} {
		require.NoError(s.t, s.Client.List(s.t.Context(), list, client.InNamespace(s.Namespace)))
		for _, object := range objects(s.t, list) {
			if object.GetAnnotations()["cairn.storage/osd-uuid"] == uuid {
				left = append(left, fmt.Sprintf("%T", object))
			}
		}
	}
	return left
}

func objects(t *testing.T, list client.ObjectList) (out []client.Object) {
	items, err := meta.ExtractList(list)
	require.NoError(t, err)
	for _, item := range items {
		out = append(out, item.(client.Object))
	}
	return out
}

// looksUntil looks until something holds.
func (s *site) looksUntil(what string, holds func() bool) {
	s.t.Helper()
	for range looks * max(1, s.lag) {
		if holds() {
			return
		}
		s.look()
	}
	c := s.cluster()
	require.Failf(s.t, "never: "+what, "plan %+v\nblocker %+v\nerrors %v", c.Status.Plan, c.Status.Blocker, s.errors)
}

func TestADeviceTakenOutOfTheSpecLeavesOnceItsDataIsElsewhere(t *testing.T) {
	s := fourOSDs(t)
	id := s.known().ID
	s.Ceph.SetMoving(id, true)
	s.takeOut()
	s.looksUntil("its data is moved", func() bool { return !s.known().In })
	s.looks(10)
	require.True(t, s.known().Up, "it serves its data while that is on its way")
	require.Len(t, s.left(), 2)
	c := s.cluster()
	require.Equal(t, "3/3", c.Status.OSDs.Summary)
	require.Len(t, c.Status.Plan, 1)
	require.Contains(t, c.Status.Plan[0].What, fmt.Sprintf("wait until nothing needs osd.%d (disk2 on node node1): ", id))
	require.Contains(t, c.Status.Plan[0].What, "still store some PG data")

	s.Ceph.SetMoving(id, false)
	c = s.converge()
	require.Equal(t, "3/3", c.Status.OSDs.Summary)
	require.Nil(t, s.known())
	require.Empty(t, s.left())
	require.Empty(t, s.errors)
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
}

func TestADeviceThatIsPutBackInTimeIsUsedAsBefore(t *testing.T) {
	s := fourOSDs(t)
	shape, before := s.shape(), s.known()
	s.Ceph.SetMoving(before.ID, true)
	s.takeOut()
	s.looksUntil("its data is moved", func() bool { return !s.known().In })
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.look()
	require.Equal(t, before, s.known())
	require.Equal(t, shape, s.shape())
}

func TestANodeTakenOutOfTheSpecIsRemovedOnlyWhereReplicasStayApart(t *testing.T) {
	s := newSite(t)
	s.converge()
	for what, spec := range map[string]v1alpha1.BlockPoolSpec{
		"replicas: 2 would be left. Add a device elsewhere first, or lower the pool's replicas": {Cluster: s.name},
		"chunks: 2 would be left. Add a device elsewhere first":                                 {Cluster: s.name, ErasureCoded: &v1alpha1.ErasureCoding{DataChunks: 2, CodingChunks: 1}},
	} {
		pool := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "fast"}, Spec: spec}
		require.NoError(t, s.Client.Create(t.Context(), pool))
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.Nodes = c.Spec.Storage.Nodes[:2] })
		s.looks(10)
		c := s.cluster()
		require.Equal(t, v1alpha1.ReasonNotSafeToRemove, c.Status.Blocker.Reason)
		require.Contains(t, c.Status.Blocker.Message, "BlockPool fast has a host for each of its 3 "+what)
		require.NotContains(t, s.Writes(), "ceph SetOSDOut")
		require.NoError(t, s.Client.Delete(t.Context(), pool))
	}
	require.Equal(t, "2/2", s.converge().Status.OSDs.Summary)
}

// What only looks as if the device were gone must not move a byte.
func TestNothingElseTakesAnOSDAway(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes = nil
		c.Spec.Storage.NodeSelector = &metav1.LabelSelector{MatchExpressions: []metav1.LabelSelectorRequirement{{Key: corev1.LabelHostname, Operator: metav1.LabelSelectorOpExists}}}
		c.Spec.Storage.Filter = &v1alpha1.DeviceFilter{IDPattern: "disk1"}
	})
	s.converge()
	osds := maps.Clone(s.OSDs())
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.NodeSelector.MatchExpressions = []metav1.LabelSelectorRequirement{{Key: corev1.LabelHostname, Operator: metav1.LabelSelectorOpIn, Values: []string{"node1"}}}
		c.Spec.Storage.Filter.IDPattern = "disk2"
	})
	s.looks(15)
	require.NotContains(t, s.Writes(), "ceph SetOSDOut")
	require.Subset(t, slices.Collect(maps.Keys(s.OSDs())), slices.Collect(maps.Keys(osds)))
}
