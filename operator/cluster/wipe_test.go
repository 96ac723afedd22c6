package cluster_test

import (
	"context"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
)

func wiping(c *v1alpha1.StorageCluster) { c.Spec.Storage.OnRemoval = v1alpha1.RemovalWipe }

func (s *site) takeOutAndWipe() {
	s.edit(func(c *v1alpha1.StorageCluster) {
		wiping(c)
		c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
	})
}

func (s *site) putBack() {
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
}

// purged looks until Ceph knows the OSD no more; the disk is as it was.
func (s *site) purged() {
	s.looksUntil("it is purged", func() bool { return len(s.osds()) == 3 })
	require.Contains(s.t, s.OSDs(), "node1/disk2")
}

func TestAWipedDiskCanBeNamedAgain(t *testing.T) {
	s, act := beginRemoval(t)
	act()
	s.putBack()
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	require.NotNil(t, s.known())
	require.Empty(t, s.errors)
}

func TestADiskThatWasKeptIsRefusedByName(t *testing.T) {
	s := fourOSDs(t)
	s.takeOut()
	s.converge()
	require.Contains(t, s.OSDs(), "node1/disk2", "what is on it is kept")
	uuid := s.OSDs()["node1/disk2"]
	s.putBack()
	s.looks(10)
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonDeviceRefused, blocker.Reason)
	for _, words := range []string{`device "disk2" on node node1`, "it holds osd.", uuid, "which has left this cluster", "blkdiscard -f /dev/disk/by-id/disk2", "Or take it out of spec.storage.nodes[node1].devices"} {
		require.Contains(t, blocker.Message, words)
	}
	require.Len(t, s.osds(), 3, "no OSD is made of what another one left")

	s.Plug("node1", "disk2") // a person has wiped it
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
}

// A device that is named again while it is being wiped waits for that.
func TestADiskThatIsNamedAgainWaitsUntilItIsWiped(t *testing.T) {
	s := fourOSDs(t)
	s.takeOutAndWipe()
	s.purged()
	s.putBack()
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	require.Contains(t, s.Writes(), "create *v1.Job "+s.jobName())
	require.Zero(t, s.freeingJobs())
	require.Empty(t, s.errors)
}

// jobName of the Job that wiped the disk.
func (s *site) jobName() string {
	for _, write := range with(s.Writes(), "create *v1.Job main-wipe-osd-") {
		return write[len("create *v1.Job "):]
	}
	return "none"
}

func TestADiskIsKeptWhenTheSpecSaysSoInTime(t *testing.T) {
	s := fourOSDs(t)
	s.takeOutAndWipe()
	s.purged()
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.OnRemoval = "Keep" })
	s.converge()
	require.Contains(t, s.OSDs(), "node1/disk2")
	require.Empty(t, s.left())
}

func TestADiskIsNotWipedWhileAnyDataIsMissing(t *testing.T) {
	s := fourOSDs(t)
	s.takeOutAndWipe()
	s.purged()
	s.Ceph.SetPGs(map[string]int{"active+undersized+degraded": 3})
	s.looks(10)
	require.Equal(t, "none", s.jobName())
	require.Contains(t, s.cluster().Status.Blocker.Message, "'empty the disk disk2 on node node1' waits until all PGs are active+clean")
	s.Ceph.SetPGs(nil)
	s.converge()
	require.NotContains(t, s.OSDs(), "node1/disk2")
}

func TestADiskOfANodeThatIsGoneIsWipedWhenTheNodeIsBackAndHoldsUpNothing(t *testing.T) {
	s := fourOSDs(t)
	s.takeOutAndWipe()
	s.purged()
	s.Lose("node1")
	s.looks(5)
	require.Equal(t, "none", s.jobName())
	require.Contains(t, s.planned("osd-node1-disk2-wipe").Gate, "node node1, which has the device, is ready. When it is gone for ever, set spec.storage.onRemoval to Keep")
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[2].Devices = append(c.Spec.Storage.Nodes[2].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
	s.looksUntil("all else goes on", func() bool { return s.OSDs()["node3/disk2"] != "" })
	s.Return("node1")
	s.converge()
	require.NotContains(t, s.OSDs(), "node1/disk2")
}

func (s *site) planned(name string) v1alpha1.PlanStep {
	for _, step := range s.cluster().Status.Plan {
		if step.Name == name {
			return step
		}
	}
	require.Failf(s.t, "no such step", "%s in %+v", name, s.cluster().Status.Plan)
	return v1alpha1.PlanStep{}
}

func TestADiskThatHoldsSomethingElseIsRefusedAndNamed(t *testing.T) {
	s := fourOSDs(t)
	s.takeOutAndWipe()
	s.purged()
	s.Plant("node1", "disk2", "0d4bbd8e-8a5f-4d0c-9a1c-0d6b0d6b0d6b", "6f0c3c1e-46d5-4e0f-9a8f-6f0c3c1e46d5")
	s.looks(10)
	require.Equal(t, "none", s.jobName())
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonDeviceRefused, blocker.Reason)
	require.Contains(t, blocker.Message, "'empty the disk disk2 on node node1' waits until it is that OSD's, or blank. It is refused and left as it is: HasOSD")
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.OnRemoval = "Keep" })
	s.converge()
	require.Equal(t, "6f0c3c1e-46d5-4e0f-9a8f-6f0c3c1e46d5", s.OSDs()["node1/disk2"])
}

func TestADiskThatIsNowhereIsSaidToKeepWhatIsOnIt(t *testing.T) {
	s := fourOSDs(t)
	book := &diary{}
	s.takeOutAndWipe()
	s.purged()
	s.Fail("node1", "disk2")
	s.events = book
	s.converge()
	require.Contains(t, book.steps, "forget the key of the OSD of disk2 on node node1, whose disk no node shows: what is on it stays: Ceph knows it no more")
}

// A look that rests on what was so a moment ago wipes nothing; one that is told so by the
// server itself is the planted bug that shows.
func TestNoDiskIsWipedOnAStaleRead(t *testing.T) {
	for name, planted := range map[string]bool{"the server is asked once more": false, "planted: and it says what was": true} {
		t.Run(name, func(t *testing.T) {
			s := fourOSDs(t)
			s.takeOutAndWipe()
			s.purged()
			before := s.cluster()
			s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.OnRemoval = "Keep" })
			s.Planted = planted
			reads := 0
			live := interceptor.NewClient(s.Client, interceptor.Funcs{Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				if seen, is := o.(*v1alpha1.StorageCluster); is {
					if reads++; reads == 1 || planted { // the edit comes right after the look's first read
						before.DeepCopyInto(seen)
						return nil
					}
				}
				return c.Get(ctx, key, o, opts...)
			}})
			for range 3 {
				reads = 0
				_, err := s.Operator(func() error {
					r := &cluster.Reconciler{Client: s.client, Live: live, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test"}
					_, err := r.Reconcile(t.Context(), before)
					return err
				})
				require.NoError(t, err)
				s.Step()
			}
			require.Equal(t, planted, len(s.Violations) > 0)
			require.Equal(t, planted, s.OSDs()["node1/disk2"] == "")
			s.converge()
		})
	}
}

func TestAWipeIsForeseen(t *testing.T) {
	s := fourOSDs(t)
	s.happensAsForeseen(func(c *v1alpha1.StorageCluster) {
		wiping(c)
		c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
	})
	require.NotContains(t, s.OSDs(), "node1/disk2")
}

// A wipe that comes late, from an operator that was held up until all was over, is gone before
// it meets the OSD that was made on the disk meanwhile.
func TestAWipeThatComesLateGoes(t *testing.T) {
	s, act := beginRemoval(t)
	var late *batchv1.Job
	s.client = interceptor.NewClient(s.OperatorClient().(client.WithWatch), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if job, is := o.(*batchv1.Job); is {
				late = job.DeepCopy()
			}
			return c.Create(ctx, o, opts...)
		},
	})
	act()
	s.putBack()
	s.converge()
	require.NotNil(t, late)
	require.NoError(t, s.Client.Create(t.Context(), late))
	require.Equal(t, 1, s.freeingJobs())
	s.Step()
	require.Zero(t, s.freeingJobs())
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	require.Empty(t, s.Violations)
}

// What empties disks ends with the StorageCluster, whose data stay.
func TestAWipeThatHasNotBegunEndsWithACluster(t *testing.T) {
	s := fourOSDs(t)
	s.takeOutAndWipe()
	s.purged()
	s.Freeze("node1")
	s.looksUntil("it is to be wiped", func() bool { return s.freeingJobs() > 0 })
	require.NoError(t, s.Client.Delete(t.Context(), s.cluster()))
	s.reconcile()
	require.Zero(t, s.freeingJobs())
	require.Contains(t, s.OSDs(), "node1/disk2")
}

// A Secret that is not as it was seen is not deleted: what is in it may be in use again.
func TestAnOSDsSecretThatHasChangedIsNotForgotten(t *testing.T) {
	s := fourOSDs(t)
	s.takeOut()
	changed := false
	s.client = interceptor.NewClient(s.OperatorClient().(client.WithWatch), interceptor.Funcs{
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			if secret, is := o.(*corev1.Secret); is && !changed {
				changed = true
				live := s.Secret(secret.Name)
				live.Annotations["test"] = "changed"
				require.NoError(t, s.Client.Update(ctx, live))
				require.True(t, apierrors.IsConflict(c.Delete(ctx, o, opts...)))
				require.NotNil(t, s.Secret(secret.Name))
			}
			return c.Delete(ctx, o, opts...)
		},
	})
	s.converge()
	s.looks(2)
	require.True(t, changed)
	require.Empty(t, s.left(), "the next look sees it")
	require.Empty(t, s.errors)
}
