package cluster

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

func TestStepsOfOneKindAreDoneTogetherAndInOrder(t *testing.T) {
	write := func(object client.Object) Step {
		object.SetLabels(map[string]string{kube.LabelComponent: osd.Component})
		return Step{Apply: []client.Object{object}}
	}
	ofMon := Step{Apply: []client.Object{&corev1.Service{}}}
	steps := []Step{
		ofMon, ofMon,
		write(&corev1.Secret{}), write(&corev1.Secret{}),
		write(&appsv1.Deployment{}), {Wait: true}, write(&appsv1.Deployment{}),
		{NewOSD: &osd.Target{}}, {NewOSD: &osd.Target{}, PlanStep: v1alpha1.PlanStep{Gate: "closed"}}, {NewOSD: &osd.Target{}},
		{SetOut: &SetOut{}}, {SetOut: &SetOut{}}, {Delete: []client.Object{&corev1.Pod{}}},
		write(&corev1.Secret{}),
	}
	require.Equal(t, [][]int{{0}, {1}, {2, 3}, {4, 6}, {7, 9}, {10}, {11}, {12}, {13}}, batches(steps))
}

func TestTheNextLookComesTheLaterTheLongerNothingHasChanged(t *testing.T) {
	now := moment
	r := &Reconciler{Now: func() time.Time { return now }}
	c := testCluster()
	c.Status.FSID = "known"
	r.changed.Store(c.UID, now)
	require.Equal(t, lookAtOnce, r.next(true, c, 1))
	require.Equal(t, lookAtOnce, r.next(false, c, 1))
	now = now.Add(5 * time.Second)
	require.Equal(t, time.Second/2, r.next(false, c, 1))
	now = now.Add(time.Hour)
	require.Equal(t, lookAgainSoon, r.next(false, c, 1))
	require.Equal(t, lookAgainSoon, r.next(false, c, 0), "it is not Ready: the second mgr is awaited")

	meta.SetStatusCondition(&c.Status.Conditions, metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue})
	require.Equal(t, lookAgain, r.next(false, c, 0))
	c.Status.Blocker = &v1alpha1.Blocker{}
	require.Equal(t, lookAgain, r.next(false, c, 1))
}
