package simulation

import (
	"encoding/json"
	"fmt"
	"hash/fnv"
	"slices"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// Step lets Kubernetes and Ceph go on until they rest.
func (w *World) Step() {
	w.collectOrphans()
	w.provide()
	var deployments appsv1.DeploymentList
	require.NoError(w.t, w.Client.List(w.context(), &deployments, client.InNamespace(w.Namespace)))
	wanted := map[string]bool{}
	var running []corev1.Pod
	var restarted []restart
	for i := range deployments.Items {
		deployment := &deployments.Items[i]
		pod := w.pod(deployment)
		wanted[pod.Name] = !w.collect(deployment, pod)
		if deployment.DeletionTimestamp != nil {
			continue
		}
		w.removePods(func(other *corev1.Pod) bool {
			return other.Labels["deployment"] == deployment.Name && other.Name != pod.Name
		})
		started := !w.lost[pod.Spec.NodeName] && w.run(pod)
		w.rollOut(deployment, started)
		restarted = append(restarted, w.restarted(deployment, pod, started)...)
		if started {
			running = append(running, *pod)
		}
	}
	w.removePods(func(pod *corev1.Pod) bool { return !wanted[pod.Name] && pod.Labels["deployment"] != "" })
	w.forget(deployments.Items)
	w.releaseClaims()
	w.judgeRestarts(restarted)
	w.daemons(running)
	w.jobs(running)
	w.countBudgets()
	w.evictAll()
	w.answer()
}

// collectOrphans deletes what belonged to a StorageCluster, or a Secret, that is no more.
func (w *World) collectOrphans() {
	owners := map[types.UID]bool{}
	for _, list := range []client.ObjectList{&v1alpha1.StorageClusterList{}, &corev1.SecretList{}} {
		require.NoError(w.t, w.Client.List(w.context(), list, client.InNamespace(w.Namespace)))
		require.NoError(w.t, meta.EachListItem(list, func(o runtime.Object) error {
			owners[o.(client.Object).GetUID()] = true
			return nil
		}))
	}
	for _, list := range []client.ObjectList{&appsv1.DeploymentList{}, &corev1.ServiceList{}, &corev1.SecretList{}, &corev1.ConfigMapList{}, &batchv1.JobList{}} {
		require.NoError(w.t, w.Client.List(w.context(), list, client.InNamespace(w.Namespace)))
		require.NoError(w.t, meta.EachListItem(list, func(o runtime.Object) error {
			object := o.(client.Object)
			left := slices.ContainsFunc(object.GetOwnerReferences(), func(owner metav1.OwnerReference) bool {
				return owner.Kind != "StorageCluster" && owner.Kind != "Secret" || owners[owner.UID]
			})
			if left || len(object.GetOwnerReferences()) == 0 {
				return nil
			}
			return client.IgnoreNotFound(w.Client.Delete(w.context(), object, client.PropagationPolicy(metav1.DeletePropagationBackground)))
		}))
	}
}

// collect is the garbage collector's work on a Deployment that is deleted in the
// foreground: it goes once its pod has stopped, which it does where its node runs.
func (w *World) collect(deployment *appsv1.Deployment, pod *corev1.Pod) bool {
	if deployment.DeletionTimestamp == nil || w.lost[pod.Spec.NodeName] {
		return false
	}
	w.removePods(func(other *corev1.Pod) bool { return other.Labels["deployment"] == deployment.Name })
	deployment.Finalizers = nil
	require.NoError(w.t, client.IgnoreNotFound(w.Client.Update(w.context(), deployment)))
	return true
}

// pod of a Deployment, named for its template.
func (w *World) pod(deployment *appsv1.Deployment) *corev1.Pod {
	template, err := json.Marshal(deployment.Spec.Template)
	require.NoError(w.t, err)
	hash := fnv.New32a()
	_, _ = hash.Write(template)
	pod := &corev1.Pod{ObjectMeta: *deployment.Spec.Template.ObjectMeta.DeepCopy(), Spec: *deployment.Spec.Template.Spec.DeepCopy()}
	pod.Namespace, pod.Name = deployment.Namespace, fmt.Sprintf("%s-%x", deployment.Name, hash.Sum32())
	pod.Labels["deployment"] = deployment.Name
	pod.Spec.NodeName = pod.Spec.NodeSelector[corev1.LabelHostname]
	if pod.Spec.NodeName == "" {
		pod.Spec.NodeName = w.nodeOfClaim(pod)
	}
	if pod.Spec.NodeName == "" {
		open := slices.IndexFunc(Nodes, func(name string) bool { return !w.closed(name) })
		pod.Spec.NodeName = Nodes[max(0, open)]
	}
	return pod
}

// run makes a pod run, once all that it mounts exists.
func (w *World) run(pod *corev1.Pod) bool {
	if !w.mountable(pod) {
		return false
	}
	var live corev1.Pod
	err := w.Client.Get(w.context(), client.ObjectKeyFromObject(pod), &live)
	if apierrors.IsNotFound(err) {
		live = *pod.DeepCopy()
		err = w.Client.Create(w.context(), &live)
	}
	require.NoError(w.t, err)
	if live.DeletionTimestamp != nil { // another takes its place once it has ended
		w.removePods(func(other *corev1.Pod) bool { return other.UID == live.UID })
		return false
	}
	if why := w.cannotRun(pod); why != nil {
		w.setStatus(&live, corev1.PodPending, corev1.ContainerState{Waiting: why})
		return false
	}
	if live.Status.Phase != corev1.PodRunning {
		if w.closed(pod.Spec.NodeName) {
			return false
		}
		live.Status.Phase, live.Status.ContainerStatuses = corev1.PodRunning, nil
		live.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue}}
		require.NoError(w.t, w.Client.Status().Update(w.context(), &live))
	}
	return true
}

// closed reports whether a node takes no new pods.
func (w *World) closed(name string) bool {
	var node corev1.Node
	require.NoError(w.t, w.Client.Get(w.context(), client.ObjectKey{Name: name}, &node))
	return node.Spec.Unschedulable
}

func (w *World) mountable(pod *corev1.Pod) bool {
	for _, volume := range pod.Spec.Volumes {
		if volume.ConfigMap != nil && !w.has(&corev1.ConfigMap{}, volume.ConfigMap.Name) {
			return false
		}
		if volume.PersistentVolumeClaim != nil && !w.claimed(volume.PersistentVolumeClaim.ClaimName) {
			return false
		}
		if volume.Secret == nil {
			continue
		}
		var secret corev1.Secret
		if !w.has(&secret, volume.Secret.SecretName) {
			return false
		}
		for _, item := range volume.Secret.Items {
			if _, has := secret.Data[item.Key]; !has {
				return false
			}
		}
	}
	return true
}

func (w *World) has(object client.Object, name string) bool {
	err := w.Client.Get(w.context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, object)
	require.NoError(w.t, client.IgnoreNotFound(err))
	return err == nil
}

// rollOut is what the Deployment controller writes.
func (w *World) rollOut(deployment *appsv1.Deployment, started bool) {
	status := appsv1.DeploymentStatus{ObservedGeneration: deployment.Generation, Replicas: 1, UpdatedReplicas: 1}
	if started {
		status.ReadyReplicas, status.AvailableReplicas = 1, 1
	} else {
		status.UnavailableReplicas = 1
	}
	if !equality.Semantic.DeepEqual(deployment.Status, status) {
		deployment.Status = status
		require.NoError(w.t, w.Client.Status().Update(w.context(), deployment))
	}
}

func (w *World) removePods(which func(*corev1.Pod) bool) {
	var pods corev1.PodList
	require.NoError(w.t, w.Client.List(w.context(), &pods, client.InNamespace(w.Namespace)))
	for i := range pods.Items {
		if which(&pods.Items[i]) {
			require.NoError(w.t, w.Client.Delete(w.context(), &pods.Items[i], &client.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0), Preconditions: &metav1.Preconditions{UID: &pods.Items[i].UID}}))
		}
	}
}
