package disruption_test

import (
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/disruption"
)

var now = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

// cluster is one of three zones with two nodes each, which have two OSDs each; a
// mon is in each zone. Nothing is amiss.
func cluster() *disruption.View {
	v := &disruption.View{Now: now, Cluster: &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Name: "main"}}, Budgets: map[string]*policyv1.PodDisruptionBudget{}}
	id := 0
	for i, name := range []string{"a1", "a2", "b1", "b2", "c1", "c2"} {
		node := corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: name[:1]}}}
		node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
		v.Nodes = append(v.Nodes, node)
		for range 2 {
			v.Daemons = append(v.Daemons, disruption.Daemon{Kind: "osd", Name: string(rune('0' + id)), ID: id, Node: name, Up: true, In: true, Pod: pod()})
			id++
		}
		if i%2 == 0 {
			v.Daemons = append(v.Daemons, disruption.Daemon{Kind: "mon", Name: name[:1], Node: name, Up: true, Pod: pod()})
		}
	}
	return v
}

func pod() *corev1.Pod {
	p := &corev1.Pod{}
	p.Status.Conditions = []corev1.PodCondition{{Type: corev1.PodReady, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(now.Add(-time.Minute))}}
	return p
}

// at is one of the daemons.
func at(v *disruption.View, name string) *disruption.Daemon {
	for i := range v.Daemons {
		if v.Daemons[i].Name == name {
			return &v.Daemons[i]
		}
	}
	panic(name)
}

func cordon(v *disruption.View, nodes ...string) {
	for i := range v.Nodes {
		for _, name := range nodes {
			if v.Nodes[i].Name == name {
				v.Nodes[i].Spec.Unschedulable = true
			}
		}
	}
}

func stop(v *disruption.View, names ...string) {
	for _, name := range names {
		at(v, name).Up, at(v, name).Pod = false, nil
	}
	v.Unclean = "all PGs are active+clean (8 are active+undersized)"
}

// decide until nothing changes, with the disruption controller and Ceph answering.
func decide(v *disruption.View, notOK string) *disruption.Decision {
	for range 3 {
		v.Asked, v.NotOK = disruption.Candidates(v), notOK
		for _, budget := range disruption.Decide(v).Budgets {
			v.Budgets[budget.Name] = budget
		}
	}
	return disruption.Decide(v)
}

func over(v *disruption.View, kinds ...string) {
	for _, kind := range kinds {
		v.Pools = append(v.Pools, v1alpha1.BlockPool{Spec: v1alpha1.BlockPoolSpec{FailureDomain: kind}})
	}
}

// storage is how many the budget of mons and OSDs is about, and how many must stay.
func storage(d *disruption.Decision) [2]int {
	for _, budget := range d.Budgets {
		if budget.Name == "main-storage" {
			return [2]int{len(budget.Spec.Selector.MatchExpressions[1].Values), budget.Spec.MinAvailable.IntValue()}
		}
	}
	return [2]int{}
}

func TestTheSmallestFailureDomainOfThePoolsIsDrained(t *testing.T) {
	for _, test := range []struct {
		kinds []string
		want  string
	}{{nil, "host"}, {[]string{"host"}, "host"}, {[]string{"osd"}, "host"}, {[]string{"zone"}, "zone"}, {[]string{"zone", "host"}, "host"}, {[]string{"region", "rack"}, "rack"}} {
		v := cluster()
		over(v, test.kinds...)
		require.Equal(t, test.want, v.Kind(), "%v", test.kinds)
	}
}

func TestWhatIsLeftOfADomainMayGoAndNothingElse(t *testing.T) {
	for name, test := range map[string]struct {
		begin  func(v *disruption.View)
		notOK  string
		want   [2]int
		opened string
		waits  string
	}{
		"all is well":                         {begin: func(*disruption.View) {}, want: [2]int{15, 14}},
		"cordoned nodes alone change nothing": {begin: func(v *disruption.View) { cordon(v, "a1", "b1") }, want: [2]int{15, 14}},
		"PGs are not clean": {begin: func(v *disruption.View) { v.Unclean = "all PGs are active+clean (8 are peering)" },
			want: [2]int{15, 15}, waits: "all PGs are active+clean (8 are peering)"},
		"an OSD stopped by itself": {begin: func(v *disruption.View) { stop(v, "0") }, want: [2]int{15, 15}, waits: "osd.0 of node a1 is back, and all PGs are clean"},
		"the first OSD of a cordoned node": {begin: func(v *disruption.View) { cordon(v, "a1"); stop(v, "0") },
			want: [2]int{13, 13}, opened: "mon a and osd.1", waits: "osd.0 of node a1 is back, and all PGs are clean"},
		"the mon of a cordoned node": {begin: func(v *disruption.View) { cordon(v, "a1"); stop(v, "a") },
			want: [2]int{13, 13}, opened: "osd.0 and osd.1", waits: "mon a of node a1 is back, and all PGs are clean"},
		"a pod that ends, though Ceph has not noticed": {begin: func(v *disruption.View) { cordon(v, "a1"); at(v, "0").Pod = nil },
			want: [2]int{13, 13}, opened: "mon a and osd.1", waits: "osd.0 of node a1 is back, and all PGs are clean"},
		"the other node of the zone is another host": {begin: func(v *disruption.View) { cordon(v, "a1", "a2"); stop(v, "0", "1", "a") },
			want: [2]int{15, 15}, waits: "mon a, osd.0 and osd.1 of node a1 are back, and all PGs are clean"},
		"but is drained too when all pools are over zones": {begin: func(v *disruption.View) { over(v, "zone"); cordon(v, "a1", "a2"); stop(v, "0", "1", "a") },
			want: [2]int{13, 13}, opened: "osd.2 and osd.3", waits: "mon a, osd.0 and osd.1 of node a1 are back, and all PGs are clean"},
		"never another zone": {begin: func(v *disruption.View) { over(v, "zone"); cordon(v, "a1", "b1"); stop(v, "0", "1", "a") },
			want: [2]int{15, 15}, waits: "mon a, osd.0 and osd.1 of node a1 are back, and all PGs are clean"},
		"Ceph objects": {begin: func(v *disruption.View) { cordon(v, "a1"); stop(v, "0") }, notOK: "8 PGs would be offline",
			want: [2]int{15, 15}, waits: "Ceph lets its OSDs stop: 8 PGs would be offline"},
		"two domains have stopped": {begin: func(v *disruption.View) { cordon(v, "a1", "b1"); stop(v, "0", "4") },
			want: [2]int{15, 15}, waits: "osd.0 of node a1 and osd.4 of node b1 are back, and all PGs are clean"},
		"Ceph cannot be asked": {begin: func(v *disruption.View) { cordon(v, "a1"); stop(v, "0"); v.Unknown = "timed out" },
			want: [2]int{15, 15}, waits: "Ceph can be asked: timed out"},
		"an OSD that is gone holds nobody up": {begin: func(v *disruption.View) {
			stop(v, "0")
			at(v, "0").Gone, at(v, "0").In, v.Unclean = true, false, ""
		}, want: [2]int{14, 13}},
	} {
		t.Run(name, func(t *testing.T) {
			v := cluster()
			test.begin(v)
			d := decide(v, test.notOK)
			require.Equal(t, test.want, storage(d))
			require.Equal(t, test.opened, disruption.List(d.Opened))
			require.Equal(t, test.waits, d.Waits)
		})
	}
}

func TestABudgetIsOpenedOnlyWhenTheOthersAreHeldAndThatIsInForce(t *testing.T) {
	v := cluster()
	decide(v, "")
	cordon(v, "a1")
	stop(v, "0")
	v.Asked = disruption.Candidates(v)
	held := disruption.Decide(v)
	require.Equal(t, [2]int{15, 15}, storage(held), "from rest it is held first")
	for _, budget := range held.Budgets {
		budget.Generation, budget.Status.ObservedGeneration = 7, 6
		v.Budgets[budget.Name] = budget
	}
	require.Equal(t, [2]int{15, 15}, storage(disruption.Decide(v)), "the disruption controller has not seen it")
	v.Budgets["main-storage"].Status.ObservedGeneration = 7
	require.Equal(t, [2]int{13, 13}, storage(disruption.Decide(v)))
}

func TestMonsThatCannotBeSparedAreProtectedByThemselves(t *testing.T) {
	v := cluster()
	var left []disruption.Daemon
	for _, d := range v.Daemons {
		if d.Kind == "osd" || d.Name == "a" {
			left = append(left, d)
		}
	}
	v.Daemons = left
	cordon(v, "a1")
	d := decide(v, "")
	require.Equal(t, [2]int{12, 11}, storage(d))
	require.Equal(t, "main-mon", d.Budgets[1].Name)
	require.Equal(t, 1, d.Budgets[1].Spec.MinAvailable.IntValue())
	require.Contains(t, d.Blocked(v), "node a1: mon a stays, because the mons would have no quorum without it")
}

func TestAMgrMayGoWhileAnotherStandsBy(t *testing.T) {
	for _, test := range []struct {
		mgrs  int
		well  bool
		least int
	}{{2, true, 1}, {2, false, 2}, {1, true, 0}, {1, false, 0}} {
		v := cluster()
		for i := range test.mgrs {
			v.Daemons = append(v.Daemons, disruption.Daemon{Kind: "mgr", Name: string(rune('a' + i)), Node: "a1", Up: test.well, Pod: pod()})
		}
		budgets := disruption.Decide(v).Budgets
		require.Equal(t, "main-mgr", budgets[1].Name)
		require.Equal(t, test.least, budgets[1].Spec.MinAvailable.IntValue())
	}
}

func TestATaintThatIsNotToleratedIsACordonAndKubernetesOwnAreNot(t *testing.T) {
	for key, want := range map[string]bool{"karpenter.sh/disrupted": true, "storage": false, corev1.TaintNodeUnreachable: false} {
		node := &corev1.Node{Spec: corev1.NodeSpec{Taints: []corev1.Taint{{Key: key, Effect: corev1.TaintEffectNoSchedule}}}}
		require.Equal(t, want, disruption.Cordoned(node, []corev1.Toleration{{Key: "storage", Operator: corev1.TolerationOpExists}}), key)
	}
}

func TestALostNodeIsNamedByWhatShowsIt(t *testing.T) {
	v := cluster()
	require.Empty(t, disruption.Lost(v))
	at(v, "0").Up = false
	require.Empty(t, disruption.Lost(v), "its other daemons answer")
	at(v, "1").Up = false
	require.Empty(t, disruption.Lost(v), "its mon answers")
	at(v, "a").Up = false
	require.Contains(t, disruption.Lost(v), "node a1 is silent: Kubernetes calls it ready and its pods run, but it hangs or its network is cut: mon a, osd.0 and osd.1 do not answer")
	at(v, "1").Up = true
	require.Contains(t, disruption.Lost(v), "mon a and osd.0 do not answer, osd.1 still answers", "a mon is missed before OSDs are")
	at(v, "a").Since = now.Add(-time.Second)
	require.Empty(t, disruption.Lost(v), "the mons elect anew")
	at(v, "1").Up, at(v, "a").Pod = false, pod()
	at(v, "a").Pod.Status.Conditions[0].LastTransitionTime = metav1.NewTime(now.Add(-time.Second))
	require.Empty(t, disruption.Lost(v), "one of them has only just started")
	v.Nodes[0].Status.Conditions[0] = corev1.NodeCondition{Type: corev1.NodeReady, Status: corev1.ConditionUnknown, Reason: "NodeStatusUnknown", Message: "Kubelet stopped posting node status.", LastTransitionTime: metav1.NewTime(now)}
	require.Contains(t, disruption.Lost(v), "node a1 is not ready since 03:04:05 UTC (NodeStatusUnknown: Kubelet stopped posting node status.): mon a, osd.0 and osd.1 do not answer")
	at(v, "a").Up = true
	require.Contains(t, disruption.Lost(v), "osd.0 and osd.1 do not answer, mon a still answers")
}
