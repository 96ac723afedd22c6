package cluster_test

import (
	"context"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

// stored are the mons and OSDs that were evicted, by node.
func stored(s *site) map[string][]string {
	out := map[string][]string{}
	for _, daemon := range s.Evicted() {
		if node, name, _ := strings.Cut(daemon, "/"); !strings.HasPrefix(name, "mgr-") {
			out[node] = append(out[node], name)
		}
	}
	return out
}

// empty reports whether a mon and an OSD were evicted from a node.
func (s *site) empty(node string) func() bool {
	return func() bool { return len(stored(s)[node]) == 2 }
}

func (s *site) condition(kind string) metav1.Condition {
	c := meta.FindStatusCondition(s.cluster().Status.Conditions, kind)
	require.NotNil(s.t, c)
	return *c
}

// noOut are the hosts whose OSDs Ceph does not take out.
func (s *site) noOut() (hosts []string) {
	conn, err := s.Ceph.Connect(s.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(s.t, err)
	osds, err := conn.OSDs(s.t.Context())
	require.NoError(s.t, err)
	for _, osd := range osds {
		if osd.NoOut {
			hosts = append(hosts, osd.Host)
		}
	}
	return hosts
}

// begun is a converged cluster that may be drained.
func begun(t *testing.T) *site {
	s := newSite(t)
	s.converge()
	s.looks(3)
	require.Equal(t, metav1.ConditionTrue, s.condition(v1alpha1.ConditionDrainable).Status)
	return s
}

func TestAllNodesDrainedAtOnceAreEmptiedOneAfterTheOther(t *testing.T) {
	for name, hasty := range map[string]bool{"trying between the looks": false, "trying after every write": true} {
		t.Run(name, func(t *testing.T) {
			s := begun(t)
			s.Drain(hasty, simulation.Nodes...)
			for i, node := range simulation.Nodes {
				s.looksUntil(node+" is empty", s.empty(node))
				s.looks(5)
				require.Len(t, stored(s), i+1, "%v", s.Evicted())
				for _, other := range simulation.Nodes[i+1:] {
					require.Contains(t, s.condition(v1alpha1.ConditionDrainable).Message, "node "+other+": ")
				}
				s.Uncordon(node)
			}
			s.converge()
			s.looks(2)
			require.Empty(t, s.Broken())
			require.Empty(t, s.errors)
			require.Empty(t, s.noOut())
			require.Empty(t, s.cluster().Status.Drained)
			writes := len(s.Writes())
			s.looks(20)
			require.Empty(t, s.Writes()[writes:])
		})
	}
}

func TestADrainThatWaitsSaysForWhat(t *testing.T) {
	s := begun(t)
	s.Drain(false, "node1")
	s.looksUntil("node1 is empty", s.empty("node1"))
	s.looks(4)
	blocker := s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonNodeDrained, blocker.Reason)
	require.Contains(t, blocker.Message, "node node1 is drained: mon a and osd.0 start once you run 'kubectl uncordon node1'. From ")
	require.Equal(t, v1alpha1.ReasonProtected, s.condition(v1alpha1.ConditionDrainable).Reason)

	s.Drain(false, "node2")
	s.looks(3)
	blocker = s.cluster().Status.Blocker
	require.Equal(t, v1alpha1.ReasonDrainBlocked, blocker.Reason)
	require.Contains(t, blocker.Message, "node node2: mon b and osd.1 stay until mon a and osd.0 of node node1 are back, and all PGs are clean")
	require.Empty(t, stored(s)["node2"])
}

func TestNothingIsEvictedWhileCephRecoversOrCannotBeAsked(t *testing.T) {
	t.Run("recovers", func(t *testing.T) {
		s := begun(t)
		s.Ceph.SetRecovering(true)
		s.looks(2)
		s.Drain(true, "node2")
		s.looks(5)
		require.Empty(t, stored(s))
		require.Contains(t, s.cluster().Status.Blocker.Message, "node node2: mon b and osd.1 stay until all PGs are active+clean (8 are active+undersized+degraded)")
		s.Ceph.SetRecovering(false)
		s.looksUntil("node2 is empty", s.empty("node2"))
	})
	t.Run("two mons are lost", func(t *testing.T) {
		s := begun(t)
		s.Lose("node1")
		s.Lose("node3")
		s.looks(3)
		s.Drain(true, "node2")
		s.looks(5)
		require.Empty(t, stored(s))
		require.Equal(t, v1alpha1.ReasonQuorumLost, s.cluster().Status.Blocker.Reason)
		require.Regexp(t, "until (mon a and osd.0 of node node1, |Ceph can be asked: )", s.condition(v1alpha1.ConditionDrainable).Message)
		s.Return("node1")
		s.Return("node3")
		s.looksUntil("node2 is empty", s.empty("node2"))
	})
}

func TestALostNodeIsNamedWithItsDaemonsAndHealsByItself(t *testing.T) {
	for name, test := range map[string]struct {
		lose func(*site)
		says string
	}{
		"not ready":          {func(s *site) { s.Lose("node3") }, "node node3 is not ready since"},
		"frozen, or cut off": {func(s *site) { s.Freeze("node3") }, "node node3 is silent: Kubernetes calls it ready"},
	} {
		t.Run(name, func(t *testing.T) {
			s := begun(t)
			test.lose(s)
			s.looks(2)
			blocker := s.cluster().Status.Blocker
			require.Equal(t, v1alpha1.ReasonNodeLost, blocker.Reason)
			require.Contains(t, blocker.Message, test.says)
			require.Contains(t, blocker.Message, "mon c and osd.2 do not answer. They go on by themselves when the node is back")
			s.Drain(true, "node1")
			s.looks(5)
			require.Empty(t, stored(s), "the others are protected")
			s.Uncordon("node1")
			s.Return("node3")
			s.converge()
		})
	}
}

func TestTheDataOfADrainedNodeIsNotMadeAnewForATime(t *testing.T) {
	drained := func(t *testing.T) *site {
		s := clocked(t)
		s.looks(3)
		s.Drain(false, "node2")
		s.looksUntil("node2 is empty", s.empty("node2"))
		s.looks(4)
		require.Equal(t, []string{"node2"}, s.noOut())
		require.Len(t, s.cluster().Status.Drained, 1)
		require.Equal(t, "node2", s.cluster().Status.Drained[0].Node)
		return s
	}
	t.Run("until it is back", func(t *testing.T) {
		s := drained(t)
		s.Uncordon("node2")
		s.converge()
		s.looks(2)
		require.Empty(t, s.noOut())
		require.Empty(t, s.cluster().Status.Drained)
	})
	t.Run("or its time is over, whoever restarts meanwhile", func(t *testing.T) {
		s := drained(t)
		s.Restart()
		s.pass(29 * time.Minute)
		s.looks(3)
		require.Equal(t, []string{"node2"}, s.noOut())
		s.Restart()
		s.pass(time.Minute)
		s.looks(3)
		require.Empty(t, s.noOut())
		s.looks(10)
		require.Empty(t, s.noOut(), "it is not set again")
		s.Uncordon("node2")
		s.converge()
		s.looks(2)
		require.Empty(t, s.cluster().Status.Drained)
	})
	t.Run("but what a person has set stays", func(t *testing.T) {
		s := clocked(t)
		conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
		require.NoError(t, err)
		require.NoError(t, conn.SetNoOut(t.Context(), "node2", true))
		s.looks(3)
		s.Drain(false, "node2")
		s.looksUntil("node2 is empty", s.empty("node2"))
		s.Uncordon("node2")
		s.converge()
		s.looks(3)
		require.Equal(t, []string{"node2"}, s.noOut())
	})
}

// What the sweeps rest on must see a fault that is there.
func TestABudgetThatDoesNotHoldIsSeen(t *testing.T) {
	for name, plant := range map[string]func(spec map[string]any){
		"it lets another go than the first": func(spec map[string]any) { spec["minAvailable"] = spec["minAvailable"].(int64) - 2 },
		"it opens what it should hold": func(spec map[string]any) {
			for _, item := range spec["selector"].(map[string]any)["matchExpressions"].([]any) {
				expression := item.(map[string]any)
				values := expression["values"].([]any)
				if expression["key"] == "app.kubernetes.io/instance" {
					expression["values"] = slices.DeleteFunc(slices.Clone(values), func(v any) bool { return v == "1" })
				}
			}
			spec["minAvailable"] = spec["minAvailable"].(int64) - 1
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := begun(t)
			s.client = interceptor.NewClient(s.OperatorClient().(client.WithWatch), interceptor.Funcs{
				Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
					return c.Apply(ctx, planted(o, plant), opts...)
				},
			})
			s.Drain(true, "node1", "node2")
			for range 10 {
				s.look()
			}
			require.Equal(t, "daemons are down on node1 and node2", s.Broken())
		})
	}
}

// planted is a budget of mons and OSDs with a fault.
func planted(o runtime.ApplyConfiguration, plant func(spec map[string]any)) runtime.ApplyConfiguration {
	object, ok := o.(interface{ UnstructuredContent() map[string]any })
	if !ok {
		return o
	}
	u := (&unstructured.Unstructured{Object: object.UnstructuredContent()}).DeepCopy()
	if u.GetKind() != "PodDisruptionBudget" || u.GetName() != "main-storage" {
		return o
	}
	plant(u.Object["spec"].(map[string]any))
	return client.ApplyConfigurationFromUnstructured(u)
}
