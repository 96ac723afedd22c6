package cluster_test

import (
	"context"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/kube"
)

const (
	foreignFSID = "99999999-8888-4777-8666-555555555555"
	foreignOSD  = "11111111-2222-4333-8444-555555555555"
)

// doomed is a converged cluster beside another cluster's disk, and its deletion
// with Destroy.
func doomed(t *testing.T) *site {
	s := newSite(t, func(c *v1alpha1.StorageCluster) {
		c.Spec.Deletion = v1alpha1.DeletionSpec{Policy: v1alpha1.DeletionDestroy, Confirmation: "yes-destroy-all-data-of-main"}
	})
	s.Plant("node2", "disk2", foreignFSID, foreignOSD)
	s.converge()
	s.look()
	require.NotEmpty(t, s.Stores())
	return s
}

func (s *site) delete() {
	require.NoError(s.t, s.Client.Delete(s.t.Context(), s.cluster()))
}

// gone reports whether the StorageCluster is.
func (s *site) gone() bool {
	err := s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.name}, &v1alpha1.StorageCluster{})
	require.NoError(s.t, client.IgnoreNotFound(err))
	return apierrors.IsNotFound(err)
}

func (s *site) looksUntilGone() {
	s.t.Helper()
	for range looks * max(1, s.lag) {
		if s.gone() {
			return
		}
		s.look()
	}
	c := s.cluster()
	require.Failf(s.t, "never gone", "conditions %+v\nplan %+v\nerrors %v", c.Status.Conditions, c.Status.Plan, s.errors)
}

// left is what a destroyed cluster must not leave.
func (s *site) nothingLeft() {
	s.t.Helper()
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}} {
		require.NoError(s.t, s.Client.List(s.t.Context(), list, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelCluster: s.name}))
		require.Empty(s.t, objects(s.t, list))
	}
	require.Empty(s.t, s.Stores())
	require.Equal(s.t, map[string]string{"node2/disk2": foreignOSD}, s.OSDs(), "only another cluster's disk is left as it was")
}

func TestADestroyedClusterLeavesNothingAndANewOneTakesItsDisks(t *testing.T) {
	s := doomed(t)
	before := s.FSID()
	s.delete()
	s.looksUntilGone()
	s.nothingLeft()
	require.Empty(t, s.errors)

	s.Cluster(s.name)
	c := s.converge()
	require.NotEqual(t, before, c.Status.FSID)
	require.Equal(t, "3/3", c.Status.OSDs.Summary)
}

func TestTheWayToTheEndIsShown(t *testing.T) {
	s := doomed(t)
	s.delete()
	var shown []string
	for range looks {
		if s.gone() {
			break
		}
		s.look()
		if s.gone() {
			break
		}
		c := s.cluster()
		ready := meta.FindStatusCondition(c.Status.Conditions, v1alpha1.ConditionReady)
		require.Equal(t, v1alpha1.ReasonDeleting, ready.Reason, ready.Message)
		for _, step := range c.Status.Plan {
			if !slices.Contains(shown, step.Name) {
				shown = append(shown, step.Name)
			}
		}
	}
	for _, name := range []string{"destroy", "stop", "mon-a-stopped", "osd-0-stopped", "wipe-node1", "wipe-node2", "wipe-node3", "forget"} {
		require.Contains(t, shown, name)
	}
}

func TestNothingIsDestroyedWithoutItsConfirmation(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) { c.Spec.Deletion.Policy = v1alpha1.DeletionDestroy })
	s.converge()
	osds := maps.Clone(s.OSDs())
	s.delete()
	s.looks(5)
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonNotConfirmed, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "spec.deletion.confirmation is yes-destroy-all-data-of-main")
	require.Equal(t, osds, s.OSDs())
	require.NotEmpty(t, s.Quorum(), "its daemons run")

	t.Run("it can be given while the deletion waits", func(t *testing.T) {
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Deletion.Confirmation = "yes-destroy-all-data-of-main" })
		s.looksUntilGone()
		require.Empty(t, s.OSDs())
	})
}

func TestADestructionCanBeTakenBackUntilItBegins(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) { c.Spec.Deletion.Policy = v1alpha1.DeletionDestroy })
	s.converge()
	osds := maps.Clone(s.OSDs())
	s.delete()
	s.looks(2)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Deletion.Policy = "Retain" })
	s.looksUntilGone()
	require.Equal(t, osds, s.OSDs())
	require.NotEmpty(t, s.Secret("main-keys").Data["fsid"])
}

func TestAClusterInUseIsNotDestroyedAndIsLookedAfter(t *testing.T) {
	s := doomed(t)
	pool := &v1alpha1.BlockPool{ObjectMeta: metav1.ObjectMeta{Namespace: s.Namespace, Name: "fast"}, Spec: v1alpha1.BlockPoolSpec{Cluster: s.name}}
	require.NoError(t, s.Client.Create(t.Context(), pool))
	volume := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: s.Namespace + "-pv"}, Spec: corev1.PersistentVolumeSpec{
		Capacity: corev1.ResourceList{"storage": *s.cluster().Status.Capacity.Total}, AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
		PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{
			Driver: "block.csi.cairn.storage", VolumeHandle: "1." + strings.ReplaceAll(s.FSID(), "-", "") + ".1..pvc-1"}}}}
	require.NoError(t, s.Client.Create(t.Context(), volume))
	osds := s.OSDs()
	s.delete()
	require.NoError(t, s.Client.DeleteAllOf(t.Context(), &appsv1.Deployment{}, client.InNamespace(s.Namespace)))
	s.Step()
	s.looks(10)
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonInUse, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "BlockPool fast, PersistentVolume "+volume.Name)
	require.Equal(t, osds, s.OSDs())
	require.Equal(t, "3/3", c.Status.OSDs.Summary, "daemons that were deleted came back")

	require.NoError(t, s.Client.Delete(t.Context(), pool))
	s.look()
	require.Contains(t, s.cluster().Status.Blocker.Message, "used by PersistentVolume "+volume.Name)
	volume.Finalizers = nil
	require.NoError(t, s.Client.Update(t.Context(), volume))
	require.NoError(t, s.Client.Delete(t.Context(), volume))
	s.looksUntilGone()
	s.nothingLeft()
}

func TestANodeThatIsGoneIsNamedAndCanBeSkipped(t *testing.T) {
	s := doomed(t)
	s.Lose("node3")
	s.delete()
	s.looks(15)
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonNodeGone, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "node3")
	require.Contains(t, c.Status.Blocker.Message, "spec.deletion.skipNodes")
	require.NotZero(t, c.Status.Blocker.Since)
	require.Len(t, s.OSDs(), 4, "no disk is emptied while a daemon may run")
	since := c.Status.Blocker.Since
	s.looks(3)
	require.Equal(t, since, s.cluster().Status.Blocker.Since)

	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Deletion.SkipNodes = []v1alpha1.NodeName{"node3"} })
	s.looksUntilGone()
	require.Equal(t, []string{"node2/disk2", "node3/disk1"}, slices.Sorted(maps.Keys(s.OSDs())))
	for _, store := range s.Stores() {
		require.True(t, strings.HasPrefix(store, "node3/"))
	}
}

// A Job of the quorum's rebuilding ends before the disks that it reads are emptied: it would
// bring back the directory that it works in.
func TestARebuildingEndsBeforeItsClusterIsDestroyed(t *testing.T) {
	for name, end := range map[string]func(s *site){
		"the node comes back": func(s *site) { s.Return("node3") },
		"the node is skipped": func(s *site) {
			s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Deletion.SkipNodes = []v1alpha1.NodeName{"node3"} })
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := scorched(t)
			s.recoverFromOSDs()
			s.dieAtWork("node3")
			s.edit(func(c *v1alpha1.StorageCluster) {
				c.Spec.Deletion = v1alpha1.DeletionSpec{Policy: v1alpha1.DeletionDestroy, Confirmation: "yes-destroy-all-data-of-main"}
			})
			s.delete()
			s.looks(10)
			blocker := s.cluster().Status.Blocker
			require.Equal(t, v1alpha1.ReasonNodeGone, blocker.Reason)
			require.Contains(t, blocker.Message, "node node3 is ready")
			require.Len(t, s.OSDs(), 3, "no disk is emptied while the Job may go on")
			end(s)
			s.looksUntilGone()
			s.Return("node3")
			s.Step()
			for place := range s.OSDs() {
				require.Equal(t, "node3/disk1", place, "but what was given up")
			}
			require.Empty(t, s.Wrong())
		})
	}
}

func TestANodeThatComesBackIsWiped(t *testing.T) {
	s := doomed(t)
	s.Lose("node3")
	s.delete()
	s.looks(10)
	s.Return("node3")
	s.looksUntilGone()
	s.nothingLeft()
}

// An operator that took a stale list for the truth would empty disks under running
// daemons: this one does, and is seen.
func TestTheOracleSeesDisksEmptiedUnderRunningDaemons(t *testing.T) {
	s := doomed(t)
	s.Planted = true
	s.delete()
	stale := interceptor.NewClient(s.Client, interceptor.Funcs{List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
		switch list.(type) {
		case *appsv1.DeploymentList, *corev1.PodList:
			return nil
		}
		return c.List(ctx, list, opts...)
	}})
	for range 10 {
		if s.gone() {
			break
		}
		c := s.cluster()
		_, err := s.Operator(func() error {
			r := &cluster.Reconciler{Client: s.client, Live: stale, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
			_, err := r.Reconcile(t.Context(), c)
			return err
		})
		require.NoError(t, err)
		s.Step()
	}
	require.Contains(t, strings.Join(s.Violations, "\n"), "were emptied while main-osd-")
}
