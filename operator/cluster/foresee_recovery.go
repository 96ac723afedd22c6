package cluster

import (
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
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
		// Its mons stop, as far as they are to be waited for.
		w.Pods = slices.DeleteFunc(slices.Clone(w.Pods), func(pod corev1.Pod) bool { return pod.Labels[kube.LabelComponent] == mon.Component })
	case forgetMons:
		for _, m := range w.monsBut(record.From) {
			delete(w.Services, mon.ObjectName(w.Cluster, m.Name))
		}
		return nil
	case takeBackRecovery:
		record = nil
	case finishRecovery:
		w.assumes = append(w.assumes, fmt.Sprintf("what comes after the quorum is rebuilt is known once mon %s answers: first of all other nodes get mons, until there are %d", record.From, w.Cluster.Spec.Mon.Count))
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
		}
	}
}
