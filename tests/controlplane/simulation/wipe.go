package simulation

import (
	"fmt"
	"maps"
	"strings"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/operator/kube"
)

// hasStore makes a mon's store where there is none, as ceph-mon does, and reports
// whether the mon runs: not where a store must have been there.
func (w *World) hasStore(pod *corev1.Pod) bool {
	at, fsid := pod.Spec.NodeName+"/"+pod.Labels[kube.LabelInstance], value(pod.Spec.Containers[0].Env, "FSID")
	if w.stores[at] == "" {
		if strings.Contains(pod.Spec.Containers[0].Command[2], "no store of mon") {
			return false
		}
		if w.Ceph != nil && !w.hasQuorum() {
			w.violated("mon %s began anew, without a quorum to learn from, though the cluster has data", at)
		}
		w.stores[at] = fsid
	}
	if w.stores[at] != fsid {
		w.violated("mon %s of cluster %s was started on the store of cluster %s", at, fsid, w.stores[at])
	}
	return true
}

// LoseStores removes the mon stores of a node, as a new system disk does.
func (w *World) LoseStores(node string) {
	maps.DeleteFunc(w.stores, func(at, _ string) bool { return strings.HasPrefix(at, node+"/") })
}

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
		if job.Status.Succeeded > 0 || w.lost[node] {
			continue
		}
		for _, pod := range running {
			if pod.Spec.NodeName == node {
				w.violated("the disks of %s were emptied while %s ran", node, pod.Name)
			}
		}
		w.wipe(node, job.Spec.Template.Spec.Containers[0].Command)
		job.Status.Succeeded = 1
		require.NoError(w.t, w.Client.Status().Update(w.context(), job))
	}
}

func (w *World) wipe(node string, command []string) {
	fsid := flag(command, "--fsid")
	for _, d := range w.disks {
		if d.node == node && fsid != "" && d.fsid == fsid {
			*d = disk{node: d.node, name: d.name}
		}
	}
	w.LoseStores(node)
	w.report(node)
	if len(w.stores) == 0 { // with its last store a cluster is gone
		w.Ceph, w.fsid, w.monmap, w.quorum, w.removed = nil, "", nil, nil, map[string]bool{}
	}
}

// Plant puts an OSD of another cluster on a node's disk.
func (w *World) Plant(node, device, fsid, uuid string) {
	*w.disks[node+"/"+device] = disk{node: node, name: device, uuid: uuid, fsid: fsid, id: 7}
	w.report(node)
}

// Stores are the mon stores on the nodes: node/mon.
func (w *World) Stores() (stores []string) {
	for at := range w.stores {
		stores = append(stores, at)
	}
	return stores
}
