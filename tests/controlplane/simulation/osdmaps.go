package simulation

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/operator/kube"
)

// fromOSDs does what `cairn-daemon mon collect` and `mon found` do on a node, but asks
// nobody whether a daemon runs: that is for the operator to know.
func (w *World) fromOSDs(job *batchv1.Job, command []string, running []corev1.Pod) {
	for _, pod := range running {
		if component := pod.Labels[kube.LabelComponent]; component == "mon" || component == "osd" {
			w.violated("OSDs were read, or a mon's store made of what they know, while %s ran", pod.Name)
		}
	}
	node := job.Spec.Template.Spec.NodeName
	if slices.Contains(command, "found") {
		w.makeStore(job, node, command)
		return
	}
	for i, word := range command {
		if word == "--mon" && w.stores[node+"/"+command[i+1]] != nil {
			return // it fails, and tries again
		}
	}
	newest := 0
	for i, word := range command {
		if word != "--osd" {
			continue
		}
		found := false
		for _, d := range w.disks {
			if d.node == node && !d.failed && d.fsid == flag(command, "--fsid") && strings.Contains(command[i+1], d.uuid) {
				newest, found = max(newest, d.epoch), true
			}
		}
		if !found {
			return // it fails, and tries again
		}
	}
	w.succeed(job, fmt.Sprintf(`{"first": 1, "last": %d}`, newest))
}

// makeStore makes the store of a mon from the newest maps of a node's OSDs.
func (w *World) makeStore(job *batchv1.Job, node string, command []string) {
	name, fsid := flag(command, "--mon"), flag(command, "--fsid")
	epoch, err := strconv.Atoi(flag(command, "--epoch"))
	require.NoError(w.t, err)
	for at, d := range w.disks {
		if d.fsid == fsid && !w.lost[d.node] && !d.failed && d.epoch > epoch {
			w.violated("a mon was made of OSD map %d, though %s has %d", epoch, at, d.epoch)
		}
	}
	var keys corev1.Secret
	require.True(w.t, w.has(&keys, job.Spec.Template.Spec.Volumes[len(job.Spec.Template.Spec.Volumes)-1].Secret.SecretName))
	require.NotEmpty(w.t, keys.Data["keyring"])
	w.Ceph.SetKeys(keysOf(keys.Data["keyring"]))
	_, endpoint, _ := strings.Cut(flag(command, "--endpoint"), "[v2:")
	address, _, _ := strings.Cut(endpoint, ":3300,")
	w.stores[node+"/"+name] = &store{fsid: fsid, epoch: 1, mons: []string{name}, maxID: w.beyond(), address: address}
	w.succeed(job, "")
}

// succeed ends a Job well, with what its pod says.
func (w *World) succeed(job *batchv1.Job, says string) {
	pod := &corev1.Pod{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: job.Name, Labels: job.Spec.Template.Labels}, Spec: *job.Spec.Template.Spec.DeepCopy()}
	pod.Spec.Volumes = nil
	pod.Spec.InitContainers, pod.Spec.Containers[0].VolumeMounts = nil, nil
	pod.Spec.PriorityClassName, pod.Spec.Containers[0].SecurityContext = "", nil
	pod.Spec.RestartPolicy = corev1.RestartPolicyNever
	require.NoError(w.t, ignoreExists(w.Client.Create(w.context(), pod)))
	w.setStatus(pod, corev1.PodSucceeded, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: says}})
	job.Status.Succeeded = 1
	require.NoError(w.t, w.Client.Status().Update(w.context(), job))
}
