package cluster

import (
	"errors"
	"fmt"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

// situations are what may be the case, with the reasons of the Ready condition
// and of the others, and what the one line must say.
var situations = map[string]struct {
	begin                  func(*testing.T) *scene
	happens                func(*scene)
	ready, quorum, healthy string
	says                   []string
}{
	"all is well": {running, func(*scene) {}, v1alpha1.ReasonAsSpecified, v1alpha1.ReasonQuorate, v1alpha1.ReasonHealthOK, []string{"as specified"}},
	"a new cluster": {empty, func(*scene) {}, v1alpha1.ReasonProgressing, v1alpha1.ReasonNoQuorum, v1alpha1.ReasonUnknown,
		[]string{"make the cluster's fsid and first keys"}},
	"too few nodes for the mons": {empty, func(s *scene) { s.Nodes = s.Nodes[:2] }, v1alpha1.ReasonNotEnoughNodes, "", "",
		[]string{"3 mons need 3 ready nodes", "2 mons have one", "spec.mon.allowSharedNode"}},
	"a cordoned node": {empty, func(s *scene) { s.Nodes[0].Spec.Unschedulable = true }, v1alpha1.ReasonNotEnoughNodes, "", "", []string{"uncordon"}},
	"a full OSD": {running, func(s *scene) {
		s.Ceph.Status.Health, s.Ceph.Status.Checks = "HEALTH_ERR", []ceph.HealthCheck{{Code: "OSD_FULL", Severity: "HEALTH_ERR", Summary: "1 full osd(s)"}}
	}, v1alpha1.ReasonFull, "", v1alpha1.ReasonHealthErr, []string{"Ceph takes no writes: 1 full osd(s)", "Add devices to spec.storage"}},
	"a node that is not there": {running, func(s *scene) { s.Cluster.Spec.Storage.Nodes[0].Name = "n9" }, v1alpha1.ReasonNodeNotFound, "", "",
		[]string{`"n9"`, "kubectl get nodes"}},
	"an agent that has not reported": {founding, func(s *scene) { delete(s.Inventory, "n2") }, v1alpha1.ReasonNodeNotInventory, "", "", []string{`NodeStorage "n2"`}},
	"a device that is not there": {founding, func(s *scene) { s.Cluster.Spec.Storage.Nodes[1].Devices[0].Name = "disk7" }, v1alpha1.ReasonDeviceNotFound, "", "",
		[]string{`"disk7" on node n2`, "The node has: disk1, disk2", "plug the device in"}},
	"a device that is refused": {founding, func(s *scene) {
		d := &s.Inventory["n3"].Status.Devices[1]
		d.Usable, d.Reason, d.Message = false, v1alpha1.DeviceHasFilesystem, "it holds ext4"
	}, v1alpha1.ReasonDeviceRefused, "", "", []string{`"disk2" on node n3`, "HasFilesystem", "it holds ext4"}},
	"a filter that is none": {founding, func(s *scene) {
		s.Cluster.Spec.Storage.Nodes[0].Devices = nil
		s.Cluster.Spec.Storage.Nodes[0].Filter = &v1alpha1.DeviceFilter{IDPattern: "["}
	}, v1alpha1.ReasonBadFilter, "", "", []string{`filter.idPattern "["`}},
	"an option that Ceph does not have": {founding, func(s *scene) {
		s.Cluster.Spec.Ceph.Config = map[string]v1alpha1.ConfigSection{"osd.3": {"debug_ods": "1"}}
	}, v1alpha1.ReasonInvalidOption, "", "", []string{"spec.ceph.config.osd.3.debug_ods", "the nearest: debug_mds, debug_ms, debug_osd. "}},
	"no device that matches": {founding, func(s *scene) {
		s.Cluster.Spec.Storage = v1alpha1.StorageSpec{NodeSelector: &metav1.LabelSelector{}, Filter: &v1alpha1.DeviceFilter{IDPattern: "none"}}
	}, v1alpha1.ReasonNoDevices, "", "", []string{"kubectl get nodestorage"}},
	"a pod without its image": {running, func(s *scene) {
		s.Pods = append(s.Pods, failingPod("mon", "b", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "no such host"}}))
	}, v1alpha1.ReasonPodFailing, "", "", []string{"mon-b", "node n1", "ErrImagePull: no such host", "logs"}},
	"a pod that ends again and again": {running, func(s *scene) {
		s.Pods = append(s.Pods, failingPod("osd", "3", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}}))
	}, v1alpha1.ReasonPodFailing, "", "", []string{"osd-3", "again and again", "exit code 7: the disk is gone"}},
	"a disk that is gone": {running, func(s *scene) { fails(s, func([]v1alpha1.Device) []v1alpha1.Device { return nil }) }, v1alpha1.ReasonDiskFailed, "", "",
		[]string{"osd.1 (disk2 on node n1) is down: the node does not show its device any more", "{name: NEW-DEVICE, replaces: disk2}"}},
	"a disk that cannot be read": {running, func(s *scene) {
		fails(s, func(d []v1alpha1.Device) []v1alpha1.Device {
			d[0].Usable, d[0].Reason, d[0].Message = false, v1alpha1.DeviceCannotBeProbed, "read sdb: input/output error"
			return d
		})
	}, v1alpha1.ReasonDiskFailed, "", "", []string{"osd.1 (disk2 on node n1)", "CannotBeProbed: read sdb"}},
	"a disk that fails, and one to take its place that is not there": {running, func(s *scene) {
		fails(s, func([]v1alpha1.Device) []v1alpha1.Device { return nil })
		s.Cluster.Spec.Storage.Nodes[0].Devices[1] = v1alpha1.StorageDevice{Name: "disk9", Replaces: "disk2"}
	}, v1alpha1.ReasonDiskFailed, "", "", []string{"osd.1 (disk2 on node n1)", `device "disk9" on node n1 does not exist there`}},
	"a DB device for an OSD that was made without": {running, func(s *scene) { s.Cluster.Spec.Storage.Nodes[0].Devices[1].DBDevice = "disk9" },
		v1alpha1.ReasonDBDeviceChanged, "", "", []string{`the OSD of device "disk2" on node n1 was made without a DB device`}},
	"an OSD that was given up": {running, func(s *scene) {
		metav1.SetMetaDataAnnotation(&s.Secrets[osd.SecretName(s.Cluster, s.Ceph.OSDs[1].UUID)].ObjectMeta, kube.AnnotationGivenUp, "collected-x")
	}, v1alpha1.ReasonOSDGivenUp, "", "", []string{"osd.1 (disk2 on node n1)", "never starts again"}},
	"a disk that fails under its OSD": {running, func(s *scene) {
		fails(s, func(d []v1alpha1.Device) []v1alpha1.Device { return d })
		pod := failingPod("osd", "1", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}})
		pod.Status.ContainerStatuses[0].LastTerminationState.Terminated.Message = "bdev(/dev/sdb) read: (5) Input/output error"
		s.Pods = append(s.Pods, pod)
	}, v1alpha1.ReasonDiskFailed, "", "", []string{"osd.1 (disk2 on node n1)", "I/O errors"}},
	"a disk whose node is down is not said to have failed": {running, func(s *scene) {
		fails(s, func([]v1alpha1.Device) []v1alpha1.Device { return nil })
		s.Nodes[0].Status.Conditions[0].Status = corev1.ConditionUnknown
	}, v1alpha1.ReasonDeviceNotFound, "", "", []string{`"disk2" on node n1`}},
	"a pod that fits nowhere": {running, func(s *scene) {
		pod := failingPod("mgr", "a", corev1.ContainerState{})
		pod.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodScheduled, Status: corev1.ConditionFalse, Reason: corev1.PodReasonUnschedulable, Message: "0/3 nodes are available"}}
		s.Pods = append(s.Pods, pod)
	}, v1alpha1.ReasonPodFailing, "", "", []string{"mgr-a", "cannot be scheduled: 0/3 nodes"}},
	"a pod that does not start": {running, func(s *scene) {
		pod := failingPod("osd", "1", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})
		pod.Status.Phase, pod.CreationTimestamp = corev1.PodPending, metav1.Time{Time: moment.Add(-3 * time.Minute)}
		s.Pods = append(s.Pods, pod)
	}, v1alpha1.ReasonPodFailing, "", "", []string{"osd-1", "has not started since " + clock(moment.Add(-3*time.Minute)), "describe pod"}},
	"a pod that has just been made": {running, func(s *scene) {
		pod := failingPod("osd", "1", corev1.ContainerState{Waiting: &corev1.ContainerStateWaiting{Reason: "ContainerCreating"}})
		pod.Status.Phase, pod.CreationTimestamp = corev1.PodPending, metav1.Time{Time: moment.Add(-time.Minute)}
		s.Pods = append(s.Pods, pod)
	}, v1alpha1.ReasonAsSpecified, "", "", []string{"as specified"}},
	"keys of another cluster": {running, func(s *scene) { s.Keys.FSID = "11111111-2222-4333-8444-555555555555"; s.refuseOtherKeys() }, v1alpha1.ReasonKeysMismatch, "", "",
		[]string{"main-keys", "11111111-2222-4333-8444-555555555555", "Restore the Secret that fits the data"}},
	"mons that nothing leads to": {running, func(s *scene) { s.Mons = nil }, v1alpha1.ReasonMonsMissing, "", "", []string{"main-mon-…", "from a backup"}},
	"keys that are gone":         {running, func(s *scene) { s.Keys = nil }, v1alpha1.ReasonKeysMissing, "", "", []string{"main-keys", "Restore the Secret from a backup"}},
	"mons that know another key": {running, func(s *scene) { s.Ceph, s.CephError = nil, ceph.Errorf(ceph.Forbidden, "connect", "permission denied") }, v1alpha1.ReasonCephUnreachable, v1alpha1.ReasonNoQuorum, v1alpha1.ReasonUnknown,
		[]string{"the mons refuse the key of client.admin that the Secret main-keys has", "rebuilt from a mon that was down when keys were made anew"}},
	"mons that do not answer": {running, func(s *scene) { s.Ceph, s.CephError = nil, errors.New("timed out") }, v1alpha1.ReasonCephUnreachable, v1alpha1.ReasonNoQuorum, v1alpha1.ReasonUnknown,
		[]string{"the mons do not answer: timed out", "get pods -l app.kubernetes.io/component=mon"}},
	"restarts that are not safe": {running, func(s *scene) {
		s.Cluster.Spec.Ceph.Config = nil
		s.Cluster.Spec.Resources.OSD.Limits = corev1.ResourceList{}
		s.Cluster.Spec.Placement.Tolerations = []corev1.Toleration{{Key: "storage", Operator: corev1.TolerationOpExists}}
		s.Ceph.Status.ActiveMgr = "b"
		s.Ceph.Status.PGs = map[string]int{"active+degraded": 3}
		c := stamped(s.t, desired(s.Observed, helper).MonDeployments[2])
		c.Generation, c.Status = 2, rolledOut(1)
		s.Deployments[c.Name] = c
		for _, d := range desired(s.Observed, helper).MgrDeployments {
			d = stamped(s.t, d)
			d.Generation, d.Status = 1, rolledOut(1)
			s.Deployments[d.Name] = d
		}
	}, v1alpha1.ReasonNotSafeToRestart, "", "", []string{"'restart mon-a as the spec says now' waits until mon c has restarted"}},
	"no second mgr": {running, func(s *scene) { s.Ceph.Status.StandbyMgrs = 0 }, v1alpha1.ReasonWaitingForMgr, "", "", []string{"second mgr"}},
	"Ceph that warns": {running, func(s *scene) {
		s.Ceph.Status.Health = "HEALTH_WARN"
		s.Ceph.Status.Checks = []ceph.HealthCheck{{Code: "OSD_DOWN", Severity: "HEALTH_WARN", Summary: "1 osds down"}}
	}, v1alpha1.ReasonAsSpecified, v1alpha1.ReasonQuorate, v1alpha1.ReasonHealthWarn, nil},
	"Ceph that has lost something": {running, func(s *scene) { s.Ceph.Status.Health = "HEALTH_ERR" }, v1alpha1.ReasonAsSpecified, v1alpha1.ReasonQuorate, v1alpha1.ReasonHealthErr, nil},
}

// fails takes the OSD on disk2 of n1 down, and makes something of the devices that n1 shows of it.
func fails(s *scene, shows func([]v1alpha1.Device) []v1alpha1.Device) {
	known := &s.Ceph.OSDs[1]
	known.Up = false
	seen := s.Inventory["n1"].DeepCopy()
	device := seen.Status.Devices[1]
	device.Usable, device.Reason = false, v1alpha1.DeviceHasOSD
	device.OSD = &v1alpha1.DeviceOSD{ID: 1, UUID: known.UUID, FSID: s.Keys.FSID}
	devices := shows([]v1alpha1.Device{device})
	for i := range devices {
		if devices[i].Reason != v1alpha1.DeviceHasOSD {
			devices[i].OSD = nil
		}
	}
	seen.Status.Devices = append(seen.Status.Devices[:1], devices...)
	s.Inventory["n1"] = seen
}

func failingPod(component, instance string, state corev1.ContainerState) corev1.Pod {
	return corev1.Pod{
		ObjectMeta: metav1.ObjectMeta{Namespace: "cairn-system", Name: component + "-pod", Labels: map[string]string{kube.LabelComponent: component, kube.LabelInstance: instance}},
		Spec:       corev1.PodSpec{NodeName: "n1"},
		Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{Name: component, Image: "ceph:test", State: state,
			LastTerminationState: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{ExitCode: 7, Message: "the disk is gone"}}}}},
	}
}

func TestTheStatusSaysWhatHoldsThingsUpAndWhatToDo(t *testing.T) {
	for name, test := range situations {
		t.Run(name, func(t *testing.T) {
			s := test.begin(t)
			test.happens(s)
			got := s.status()
			ready := meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionReady)
			require.Equal(t, test.ready, ready.Reason, ready.Message)
			require.Equal(t, test.ready == v1alpha1.ReasonAsSpecified, ready.Status == metav1.ConditionTrue)
			for _, words := range test.says {
				require.Contains(t, ready.Message, words)
			}
			if test.quorum != "" {
				require.Equal(t, test.quorum, meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionQuorum).Reason)
				require.Equal(t, test.healthy, meta.FindStatusCondition(got.Conditions, v1alpha1.ConditionHealthy).Reason)
			}
			if got.Blocker != nil {
				require.Equal(t, ready.Reason, got.Blocker.Reason)
				require.Equal(t, ready.Message, got.Blocker.Message)
			}
		})
	}
}

func TestAStepThatFailedIsTheBlocker(t *testing.T) {
	s := running(t)
	failed := step("osd-n1-disk2", "make an OSD of disk2 on node n1", "the spec names the device", "")
	failed.Failed = errors.New("osd new: already exists")
	got := status(s.Observed, desired(s.Observed, helper), []Step{failed})
	require.Equal(t, v1alpha1.ReasonStepFailed, got.Blocker.Reason)
	require.Contains(t, got.Blocker.Message, "could not make an OSD of disk2 on node n1: osd new: already exists")
}

// Reasons that other tests emit: those of pools, of clusters that are refused,
// of steps that failed, of removals, of claims, of failovers, of drains, destructions, upgrades and encryption.
var elsewhere = []string{"StepFailed", "InUse", "WrongNamespace", "ClusterNotFound", "ClusterNotReady", "NameTaken", "TooFewFailureDomains", "NotSafeToRemove", "MonLost",
	"OneAtATime", "Protected", "DrainBlocked", "NodeDrained", "NodeLost", "NeedsApproval",
	"NoRoom", "NotSafeToChange", "PlacingData", "Deleting", "NotConfirmed", "NodeGone",
	"ImageUnusable", "UpgradeRefused", "UpgradeHalted", "QuorumLost", "RecoveryRefused", "DataLost", "OldClients", "ClaimLost", "ClaimNotUsable",
	"NetworkMismatch", "EncryptionUnavailable", "EncryptionKeyMissing", "AllEncrypted", "NotAllEncrypted"}

func TestEveryReasonIsEmittedBySomeRule(t *testing.T) {
	emitted := map[string]bool{}
	for _, reason := range elsewhere {
		emitted[reason] = true
	}
	for _, test := range situations {
		emitted[test.ready], emitted[test.quorum], emitted[test.healthy] = true, true, true
	}
	text, err := os.ReadFile(controlplane.Path("api/v1alpha1/conditions.go"))
	require.NoError(t, err)
	reasons := regexp.MustCompile(`Reason\w+ += "(\w+)"`).FindAllStringSubmatch(string(text), -1)
	require.NotEmpty(t, reasons)
	for _, reason := range reasons {
		require.True(t, emitted[reason[1]], "no rule emits %s", reason[1])
	}
}

func TestABlockerKeepsTheTimeItBegan(t *testing.T) {
	s := running(t)
	s.Keys = nil
	s.Cluster.Status = s.status()
	s.Now = moment.Add(3600e9)
	require.True(t, s.status().Blocker.Since.Time.Equal(moment))
}

func TestTheSameSightGivesTheSameStatus(t *testing.T) {
	s := running(t)
	s.Cluster.Status = s.status()
	s.Now = moment.Add(3600e9)
	require.Equal(t, s.Cluster.Status, s.status())
}

func TestALongPlanIsCutAndSaysSo(t *testing.T) {
	steps := make([]Step, 50)
	plan := planOf(steps)
	require.Len(t, plan, maxPlan)
	require.Equal(t, "and 31 more steps", plan[maxPlan-1].What)
}

func TestAMessageFitsItsCondition(t *testing.T) {
	s := founding(t)
	for i := range 48 {
		s.Cluster.Spec.Storage.Nodes[0].Devices = append(s.Cluster.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: fmt.Sprint(strings.Repeat("ü", 60), i)})
	}
	message := s.status().Blocker.Message
	require.LessOrEqual(t, len(message), 4100)
	require.True(t, strings.ToValidUTF8(message, "") == message, "a character was cut in two")
}
