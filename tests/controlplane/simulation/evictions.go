package simulation

import (
	"context"
	"fmt"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/operator/kube"
)

// drains are what people and programs do who empty nodes.
type drains struct {
	nodes []string
	// hasty tries again after every write of the operator, not only between its looks.
	hasty bool
	// evicted pods, in order.
	evicted []string
	// broken is what the operator let happen that it must not; empty is nothing.
	broken string
}

// Cordon closes a node to new pods.
func (w *World) Cordon(name string) {
	w.setUnschedulable(w.context(), name, true)
	w.t.Cleanup(func() { w.setUnschedulable(context.WithoutCancel(w.context()), name, false) })
}

// Uncordon opens a node again, and ends its drain.
func (w *World) Uncordon(name string) {
	w.setUnschedulable(w.context(), name, false)
	w.drains.nodes = slices.DeleteFunc(w.drains.nodes, func(other string) bool { return other == name })
}

func (w *World) setUnschedulable(ctx context.Context, name string, to bool) {
	var node corev1.Node
	require.NoError(w.t, w.Client.Get(ctx, client.ObjectKey{Name: name}, &node))
	before := node.DeepCopy()
	node.Spec.Unschedulable = to
	require.NoError(w.t, w.Client.Patch(ctx, &node, client.MergeFrom(before)))
}

// Drain cordons nodes at one moment, and evicts their pods again and again until
// they are uncordoned, as kubectl drain does; with hasty after every single write
// of the operator.
func (w *World) Drain(hasty bool, nodes ...string) {
	for _, node := range nodes {
		w.Cordon(node)
	}
	w.drains.nodes, w.drains.hasty = append(w.drains.nodes, nodes...), hasty
	w.evictAll()
}

// Evicted are the daemons that were evicted, in order: node/component-instance.
func (w *World) Evicted() []string { return slices.Clone(w.drains.evicted) }

// Broken says what evictions have broken; empty when mons and OSDs of two nodes
// were never down at once.
func (w *World) Broken() string { return w.drains.broken }

// evictAll tries to evict every daemon of the nodes that are drained.
func (w *World) evictAll() {
	if len(w.drains.nodes) == 0 {
		return
	}
	for _, pod := range w.pods() {
		if slices.Contains(w.drains.nodes, pod.Spec.NodeName) && pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			w.countBudgets()
			if w.evict(&pod) {
				w.drains.evicted = append(w.drains.evicted, fmt.Sprintf("%s/%s-%s", pod.Spec.NodeName, pod.Labels[kube.LabelComponent], pod.Labels[kube.LabelInstance]))
				w.judge()
			}
		}
	}
	w.countBudgets()
}

func (w *World) pods() []corev1.Pod {
	var pods corev1.PodList
	require.NoError(w.t, w.Client.List(w.context(), &pods, client.InNamespace(w.Namespace)))
	return pods.Items
}

// evict asks the API server, which knows the budgets.
func (w *World) evict(pod *corev1.Pod) bool {
	err := w.Client.SubResource("eviction").Create(w.context(), pod, &policyv1.Eviction{
		ObjectMeta:    metav1.ObjectMeta{Namespace: pod.Namespace, Name: pod.Name},
		DeleteOptions: &metav1.DeleteOptions{GracePeriodSeconds: ptr.To[int64](0)},
	})
	if err != nil {
		require.True(w.t, apierrors.IsTooManyRequests(err), "%v", err)
		return false
	}
	return true
}

// judge looks at what evictions have left: every mon and every OSD runs on all
// nodes but one.
func (w *World) judge() {
	running := map[string]bool{}
	for _, pod := range w.pods() {
		running[pod.Labels["deployment"]] = running[pod.Labels["deployment"]] || pod.Status.Phase == corev1.PodRunning
	}
	var deployments appsv1.DeploymentList
	require.NoError(w.t, w.Client.List(w.context(), &deployments, client.InNamespace(w.Namespace)))
	var down []string
	for i := range deployments.Items {
		if node := deployments.Items[i].Spec.Template.Spec.NodeSelector[corev1.LabelHostname]; node != "" && !running[deployments.Items[i].Name] {
			down = append(down, node)
		}
	}
	slices.Sort(down)
	if down = slices.Compact(down); len(down) > 1 && w.drains.broken == "" {
		w.drains.broken = "daemons are down on " + strings.Join(down, " and ")
	}
}

// countBudgets is what the disruption controller writes.
func (w *World) countBudgets() {
	var budgets policyv1.PodDisruptionBudgetList
	require.NoError(w.t, w.Client.List(w.context(), &budgets, client.InNamespace(w.Namespace)))
	for i := range budgets.Items {
		w.count(&budgets.Items[i])
	}
}

func (w *World) count(budget *policyv1.PodDisruptionBudget) {
	selector, err := metav1.LabelSelectorAsSelector(budget.Spec.Selector)
	require.NoError(w.t, err)
	var matched corev1.PodList
	require.NoError(w.t, w.Client.List(w.context(), &matched, client.InNamespace(w.Namespace), client.MatchingLabelsSelector{Selector: selector}))
	healthy := 0
	for _, pod := range matched.Items {
		if pod.DeletionTimestamp == nil && pod.Status.Phase == corev1.PodRunning {
			healthy++
		}
	}
	least := budget.Spec.MinAvailable.IntValue()
	status := policyv1.PodDisruptionBudgetStatus{ObservedGeneration: budget.Generation, DisruptionsAllowed: int32(max(0, healthy-least)),
		CurrentHealthy: int32(healthy), DesiredHealthy: int32(least), ExpectedPods: int32(len(matched.Items))}
	if !equality.Semantic.DeepEqual(budget.Status, status) {
		budget.Status = status
		require.NoError(w.t, w.Client.Status().Update(w.context(), budget))
	}
}
