package simulation

import (
	"fmt"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

func (w *World) violated(format string, args ...any) {
	w.Violations = append(w.Violations, fmt.Sprintf(format, args...))
}

// jobs does what `cairn-daemon wipe` does on the nodes, but asks nobody whether a
// disk is in use: that is for the operator to know.
func (w *World) jobs(running []corev1.Pod) {
	var jobs batchv1.JobList
	require.NoError(w.t, w.Client.List(w.context(), &jobs, client.InNamespace(w.Namespace)))
	for i := range jobs.Items {
		job := &jobs.Items[i]
		node := job.Spec.Template.Spec.NodeName
		if job.DeletionTimestamp != nil && !w.lost[node] { // in the foreground: it goes once its pod is gone
			w.removePods(func(pod *corev1.Pod) bool { return pod.Name == job.Name })
			job.Finalizers = nil
			require.NoError(w.t, client.IgnoreNotFound(w.Client.Update(w.context(), job)))
			continue
		}
		if job.Status.Succeeded > 0 || w.lost[node] {
			continue
		}
		if job.Labels[kube.LabelComponent] == "free-db" {
			w.freeDB(job, running)
			continue
		}
		if job.Labels[kube.LabelComponent] == "wipe-osd" {
			w.wipeOSD(job, running)
			continue
		}
		if job.Labels[kube.LabelComponent] == "mon-recovery" {
			w.operate(job, running)
			continue
		}
		for _, pod := range running {
			if pod.Spec.NodeName == node {
				w.violated("the disks of %s were emptied while %s ran", node, pod.Name)
			}
		}
		for _, other := range jobs.Items {
			if other.Labels[kube.LabelComponent] == "mon-recovery" && other.Spec.Template.Spec.NodeName == node && other.Status.Succeeded == 0 {
				w.violated("the disks of %s were emptied while Job %s worked there", node, other.Name)
			}
		}
		w.wipe(node, job.Spec.Template.Spec.Containers[0].Command)
		job.Status.Succeeded = 1
		require.NoError(w.t, w.Client.Status().Update(w.context(), job))
	}
}

// freeDB empties the DB device of an OSD.
func (w *World) freeDB(job *batchv1.Job, running []corev1.Pod) {
	command := job.Spec.Template.Spec.Containers[0].Command
	uuid := flag(command, "--osd")
	for _, pod := range running {
		if pod.Labels[kube.LabelComponent] == "osd" && flag(pod.Spec.Containers[0].Command, "--uuid") == uuid {
			w.violated("the database of %s was emptied while it ran", pod.Name)
		}
	}
	for _, d := range w.disks {
		if d.node == job.Spec.Template.Spec.NodeName && d.dbOf == uuid {
			d.dbOf = ""
			w.report(d.node)
		}
	}
	job.Status.Succeeded = 1
	require.NoError(w.t, w.Client.Status().Update(w.context(), job))
}

// wipeOSD empties the disk of an OSD that has left.
func (w *World) wipeOSD(job *batchv1.Job, running []corev1.Pod) {
	command := job.Spec.Template.Spec.Containers[0].Command
	uuid := flag(command, "--osd")
	for _, pod := range running {
		if pod.Labels[kube.LabelComponent] == "osd" && flag(pod.Spec.Containers[0].Command, "--uuid") == uuid {
			w.violated("the disk of %s was emptied while it ran", pod.Name)
		}
	}
	if w.knows(uuid) {
		w.violated("the disk of OSD %s was emptied, which Ceph knows", uuid)
	}
	var clusters v1alpha1.StorageClusterList
	require.NoError(w.t, w.Client.List(w.context(), &clusters, client.InNamespace(w.Namespace)))
	for i := range clusters.Items {
		if clusters.Items[i].Spec.Storage.OnRemoval != v1alpha1.RemovalWipe {
			w.violated("the disk of OSD %s was emptied, though the spec says that it is kept", uuid)
		}
	}
	for _, d := range w.disks {
		if d.node == job.Spec.Template.Spec.NodeName && d.uuid == uuid && d.fsid == flag(command, "--fsid") && !d.failed {
			*d = disk{node: d.node, name: d.name}
			w.report(d.node)
		}
	}
	job.Status.Succeeded = 1
	require.NoError(w.t, w.Client.Status().Update(w.context(), job))
}

func (w *World) wipe(node string, command []string) {
	fsid := flag(command, "--fsid")
	for _, d := range w.disks {
		if d.node == node && fsid != "" && (d.fsid == fsid || d.dbOf != "") {
			*d = disk{node: d.node, name: d.name}
		}
	}
	w.LoseStores(node)
	w.report(node)
	if len(w.stores) == 0 { // with its last store a cluster is gone
		w.Ceph, w.fsid, w.monmap, w.quorum, w.quorate, w.removed = nil, "", nil, nil, false, map[string]bool{}
	}
}

// Plant puts an OSD of another cluster on a node's disk.
func (w *World) Plant(node, device, fsid, uuid string) {
	*w.disks[node+"/"+device] = disk{node: node, name: device, uuid: uuid, fsid: fsid, id: 7}
	w.report(node)
}
