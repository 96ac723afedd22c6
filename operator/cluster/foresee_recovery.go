package cluster

import (
	"cmp"
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// recoverMons is what a step of a quorum's rebuilding leads to.
func (w *imagined) recoverMons(verb string) error {
	record := recovering(w.Cluster)
	switch verb {
	case beginRecovery:
		record = w.newRecovery()
		// Its daemons stop, as far as they are to be waited for.
		w.Pods = slices.DeleteFunc(slices.Clone(w.Pods), func(pod corev1.Pod) bool { return fromOSDs(record) || pod.Labels[kube.LabelComponent] == mon.Component })
	case chooseStore:
		record = w.chosen()
	case reconnectVolumes:
		w.dataPaths = nil
		return nil
	case forgetMons:
		if fromOSDs(record) {
			if err := w.put(w.founderService(record)); err != nil {
				return err
			}
			w.Mons = mon.Observed(monServices(w.Services), w.nodeAddress)
		}
		for _, m := range w.monsBut(cmp.Or(record.Mon, record.From)) {
			delete(w.Services, mon.ObjectName(w.Cluster, m.Name))
		}
		return nil
	case takeBackRecovery:
		record = nil
	case finishRecovery:
		w.assumes = append(w.assumes, fmt.Sprintf("what comes after the quorum is rebuilt is known once %s answers: first of all other nodes get mons, until there are %d", beginner(record), w.Cluster.Spec.Mon.Count))
		record.Finished = &record.Began
	}
	return setRecovery(w.Cluster, record)
}

// runJobs has Jobs succeed.
func (w *imagined) runJobs(objects []client.Object) {
	w.Jobs = maps.Clone(w.Jobs)
	for _, object := range objects {
		if job, ok := object.(*batchv1.Job); ok {
			if w.Jobs == nil {
				w.Jobs = map[string]*batchv1.Job{}
			}
			done := job.DeepCopy()
			done.Status.Succeeded = 1
			w.Jobs[job.Name] = done
			w.emptied(job)
			w.Pods = append(w.Pods, reportOf(done))
		}
	}
}

// reportOf is the pod of a Job that has read OSD maps, none of which is newer than others.
func reportOf(job *batchv1.Job) corev1.Pod {
	said := corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: `{"first": 1, "last": 1}`}}
	return corev1.Pod{ObjectMeta: metav1.ObjectMeta{Name: job.Name, Labels: job.Labels}, Status: corev1.PodStatus{ContainerStatuses: []corev1.ContainerStatus{{State: said}}}}
}
