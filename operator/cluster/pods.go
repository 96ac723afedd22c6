package cluster

import (
	"fmt"
	"slices"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/disruption"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// podFailing reports the first pod that cannot start, in the words of the kubelet.
func podFailing(o *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	for i := range o.Pods {
		pod := &o.Pods[i]
		if pod.DeletionTimestamp != nil || pod.Labels[kube.LabelComponent] == upgrade.Component || o.leavesLost(d, pod) || disruption.EmptiedPod(pod, o.Nodes, o.Cluster.Spec.Placement.Tolerations) || pod.Spec.NodeName == "" && o.closedTo(pod) {
			continue
		}
		name := fmt.Sprintf("%s-%s (pod %s on node %s)", pod.Labels[kube.LabelComponent], pod.Labels[kube.LabelInstance], pod.Name, pod.Spec.NodeName)
		if why := unschedulable(pod); why != "" {
			return blocker(v1alpha1.ReasonPodFailing, "%s cannot be scheduled: %s", name, why)
		}
		for _, statuses := range [][]corev1.ContainerStatus{pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses} {
			for _, container := range statuses {
				if why := failing(&container); why != "" {
					return blocker(v1alpha1.ReasonPodFailing, "%s: container %s %s. 'kubectl -n %s logs %s -c %s --previous' has more",
						name, container.Name, why, pod.Namespace, pod.Name, container.Name)
				}
			}
		}
		if o.unstarted(pod) {
			return blocker(v1alpha1.ReasonPodFailing, "%s has not started since %s: its image is still being fetched, or it lacks a volume or its network. 'kubectl -n %s describe pod %s' has more",
				name, clock(pod.CreationTimestamp.Time), pod.Namespace, pod.Name)
		}
	}
	return nil
}

// startPatience is how long a pod may be on its way before it is named.
const startPatience = 2 * time.Minute

// unstarted reports whether no container of a pod has started in a long time, on a node
// that answers: why that is, only the pod's events say.
func (o *Observed) unstarted(pod *corev1.Pod) bool {
	node := o.node(pod.Spec.NodeName)
	return pod.Status.Phase == corev1.PodPending && node != nil && kube.NodeAnswers(node) && o.Now.Sub(pod.CreationTimestamp.Time) > startPatience &&
		!slices.ContainsFunc(slices.Concat(pod.Status.InitContainerStatuses, pod.Status.ContainerStatuses), func(c corev1.ContainerStatus) bool {
			return c.State.Waiting == nil
		})
}

func unschedulable(pod *corev1.Pod) string {
	for _, c := range pod.Status.Conditions {
		if c.Type == corev1.PodScheduled && c.Status == corev1.ConditionFalse && c.Reason == corev1.PodReasonUnschedulable {
			return c.Message
		}
	}
	return ""
}

// failing says why a container does not run, when it will not by waiting alone.
func failing(c *corev1.ContainerStatus) string {
	waiting := c.State.Waiting
	if waiting == nil {
		return ""
	}
	switch waiting.Reason {
	case "ErrImagePull", "ImagePullBackOff", "InvalidImageName", "ErrImageNeverPull", "CreateContainerConfigError", "CreateContainerError":
		return fmt.Sprintf("cannot start from image %s: %s: %s", c.Image, waiting.Reason, waiting.Message)
	case "CrashLoopBackOff":
		if last := c.LastTerminationState.Terminated; last != nil {
			return fmt.Sprintf("ends again and again, last with exit code %d: %s", last.ExitCode, last.Message)
		}
		return "ends again and again"
	}
	return ""
}
