package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// emptying is a cluster in which a Job empties the disk, or the DB device, of an OSD that has left.
func emptying(t *testing.T, step string, s *scene) (*scene, *batchv1.Job) {
	job, is := s.stepNamed(step).Create[0].(*batchv1.Job)
	require.True(t, is)
	job.CreationTimestamp = metav1.NewTime(s.Now)
	s.Jobs = map[string]*batchv1.Job{job.Name: job}
	require.Contains(t, s.stepNamed(step).What, "wait for Job "+job.Name)
	return s, job
}

// toFree is a cluster whose sixth OSD has left, with its database as it was.
func toFree(t *testing.T) *scene {
	s := withFast(t)
	s.Cluster.Spec.Storage.Nodes[0].Devices = s.Cluster.Spec.Storage.Nodes[0].Devices[:2]
	target := s.made("disk3", "/dev/disk/by-path/old")
	s.fast().Usable, s.fast().DBOf = false, target.UUID
	return s
}

func TestAJobThatEmptiesADeviceHoldsNothingUpUnsaid(t *testing.T) {
	for _, kind := range []struct {
		step, advice string
		scene        func(*testing.T) *scene
		node         int
		device       string
	}{
		{"osd-n1-disk3-db", "Bring it back; or, when it is gone for ever, delete it from Kubernetes", toFree, 0, "/dev/disk/by-id/fast"},
		{wipeStep, "When it is gone for ever, set spec.storage.onRemoval to Keep", toWipe, 2, "/dev/disk/by-id/disk2"},
	} {
		t.Run(kind.step, func(t *testing.T) {
			t.Run("it fails where the device cannot be read", func(t *testing.T) {
				_, job := emptying(t, kind.step, kind.scene(t))
				command := job.Spec.Template.Spec.Containers[0].Command
				require.Equal(t, []string{"--device", kind.device}, command[len(command)-2:])
			})
			t.Run("its node is gone", func(t *testing.T) {
				s, job := emptying(t, kind.step, kind.scene(t))
				name := s.Nodes[kind.node].Name
				s.Nodes[kind.node].Status.Conditions[0].Status = corev1.ConditionUnknown
				for _, succeeded := range []int32{0, 1} {
					job.Status.Succeeded = succeeded
					require.Equal(t, v1alpha1.ReasonNodeGone, s.stepNamed(kind.step).Reason)
					require.Contains(t, s.gates()[kind.step], "node "+name+", which has the device, is ready. "+kind.advice)
				}
				job.Status.Succeeded, job.DeletionTimestamp = 0, &metav1.Time{Time: s.Now}
				require.Equal(t, v1alpha1.ReasonNodeGone, s.stepNamed(kind.step).Reason)
				require.Contains(t, s.gates()[kind.step], "node "+name+" is ready, on which its pod may still run. Bring it back; or, when it is gone for ever, delete it from Kubernetes")
			})
			t.Run("it did not do what it was made for", func(t *testing.T) {
				s, job := emptying(t, kind.step, kind.scene(t))
				job.Status.Succeeded, job.Status.CompletionTime = 1, &metav1.Time{Time: s.Now.Add(-30 * time.Second)}
				require.True(t, s.stepNamed(kind.step).Wait)
				require.Contains(t, s.stepNamed(kind.step).What, "to be empty, as Job "+job.Name+" left it. If that lasts, see whether the node's agent runs: 'kubectl")
				job.Status.CompletionTime = &metav1.Time{Time: s.Now.Add(-61 * time.Second)}
				step := s.stepNamed(kind.step + "-again")
				require.Equal(t, []client.Object{job}, step.Stop)
				require.Equal(t, v1alpha1.RiskNone, step.Risk)
				require.Contains(t, s.open(), step.Name)
			})
		})
	}
}

// A Job that is created late, when its OSD has been forgotten, finds no owner and goes.
func TestAJobThatEmptiesADeviceBelongsToTheSecretOfItsOSD(t *testing.T) {
	for step, s := range map[string]*scene{"osd-n1-disk3-db": toFree(t), wipeStep: toWipe(t)} {
		for name, secret := range s.Secrets {
			secret.UID = types.UID("of " + name)
		}
		_, job := emptying(t, step, s)
		require.Len(t, job.OwnerReferences, 1, "all owners have to be gone")
		owner := job.OwnerReferences[0]
		require.Equal(t, "Secret", owner.Kind)
		require.Equal(t, types.UID("of "+owner.Name), owner.UID)
		require.Contains(t, job.Spec.Template.Spec.Containers[0].Command, s.Secrets[owner.Name].Annotations["cairn.storage/osd-uuid"])
	}
}
