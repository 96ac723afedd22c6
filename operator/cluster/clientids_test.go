package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// began has a mon's pod have begun anew.
func (s *scene) began(name string) {
	s.podOf(mon.Component, name).UID += "'"
	s.lookup = lookup{}
}

func TestAMonIsApartThatBeganAfterAllOthers(t *testing.T) {
	const r = mon.ClientIDRange
	for name, test := range map[string]struct {
		ids    map[string]uint64
		change func(s *scene)
		want   []string
	}{
		"one that is a range further":  {ids: map[string]uint64{"a": 4100, "b": 4101, "c": 4100 + r}, want: []string{"c"}},
		"not when two began together":  {ids: map[string]uint64{"a": 4100, "b": 4101 + r, "c": 5000 + r}},
		"nor when one says nothing":    {ids: map[string]uint64{"a": 4100, "c": 4101 + r}, change: func(s *scene) { s.silent("b") }},
		"nor when none can be asked":   {},
		"one alone is behind of none":  {ids: map[string]uint64{"a": 4100}, change: func(s *scene) { s.only("a") }, want: []string{"a"}},
		"it goes on to be so":          {ids: map[string]uint64{"a": 4100, "b": 4100 + 3*r, "c": 4100 + 2*r}, change: func(s *scene) { s.note("c", 4100+2*r) }, want: []string{"b", "c"}},
		"until another comes near":     {ids: map[string]uint64{"a": 4100, "b": 4100 + 2*r, "c": 4200 + 2*r}, change: func(s *scene) { s.note("c", 4100+2*r) }},
		"as one that was away may":     {ids: map[string]uint64{"a": 4100 + r, "b": 4200 + r, "c": 4100 + 2*r}, change: func(s *scene) { s.note("a", 4100+r); s.note("c", 4100+2*r) }, want: []string{"c"}},
		"nor is one behind a mon gone": {ids: map[string]uint64{"a": 4100, "c": 4101 + r}, change: func(s *scene) { s.only("a", "c"); s.note("b", 4200+r) }},
		"but one ahead of it is":       {ids: map[string]uint64{"a": 4100, "c": 4101 + 2*r}, change: func(s *scene) { s.only("a", "c"); s.note("b", 4200+r) }, want: []string{"c"}},
	} {
		t.Run(name, func(t *testing.T) {
			s := running(t)
			for i := range s.Mons {
				s.Mons[i].Apart = mon.Apart{}
			}
			s.Ceph.ClientIDs = test.ids
			if test.change != nil {
				test.change(s)
			}
			var apart []string
			for _, m := range s.watchedMons() {
				if m.Apart.Run == s.monRun(m.Name) && s.inQuorum(m) {
					apart = append(apart, m.Name)
				}
			}
			require.Equal(t, test.want, apart)
		})
	}
}

// silent is a mon that did not say which client IDs it gives.
func (s *scene) silent(name string) {
	s.Ceph.ClientIDsError = ceph.Errorf(ceph.Unreached, "sessions", "mon %s is unavailable", name)
}

// only these mons are in quorum.
func (s *scene) only(names ...string) { s.Ceph.Status.Quorum = names }

// note that a mon was seen apart, as it runs, with an ID.
func (s *scene) note(name string, id uint64) {
	for i := range s.Mons {
		if s.Mons[i].Name == name {
			s.Mons[i].Apart = mon.Apart{Run: s.monRun(name), ID: id}
		}
	}
}

func TestAMonThatIsSeenAheadIsWrittenDown(t *testing.T) {
	s := running(t)
	s.began("b")
	require.Empty(t, s.open(), "nothing has to be done until the mons change")
	s.Ceph.ClientIDs = map[string]uint64{"a": 4100, "b": 4100 + 5*mon.ClientIDRange, "c": 4100 + mon.ClientIDRange}
	require.Equal(t, []string{"main-mon-b"}, s.open())
	s.settle()
	require.Equal(t, fmt.Sprintf("%d@main-mon-b'", 4100+5*mon.ClientIDRange), s.Services["main-mon-b"].Annotations[kube.AnnotationApart])
	again := mon.Observed(monServices(s.Services), s.nodeAddress)
	require.Equal(t, mon.Apart{Run: s.monRun("b"), ID: 4100 + 5*mon.ClientIDRange}, again[1].Apart)
}

func TestMonsThatAreNotApartBeginAnewBeforeTheMonsChange(t *testing.T) {
	fewer := func(t *testing.T) *scene {
		s := running(t)
		s.Cluster.Spec.Mon.Count = 1
		s.began("a")
		s.began("b")
		s.began("c") // goes, and need not be
		return s
	}
	const gate = "mon a gives client IDs that no mon gave before"
	s := fewer(t)
	require.Equal(t, []string{"mon-a-anew"}, with(s.open(), "mon-"))
	require.Equal(t, gate, s.gates()["mon-c-remove"])
	require.Equal(t, v1alpha1.RiskRestart, s.stepNamed("mon-a-anew").Risk)

	s.Deployments["main-mon-b"].Status = appsv1.DeploymentStatus{}
	require.Equal(t, "mon b has restarted", s.gates()["mon-a-anew"])
	s = fewer(t)
	s.Cluster.Spec.Approval = v1alpha1.ApprovalManual
	require.Empty(t, with(s.open(), "mon-"), "nothing begins before it is approved")
	require.Equal(t, "it is approved", s.gates()["mon-c-remove"])
	s = fewer(t)
	s.Ceph.ClientIDs = map[string]uint64{"b": 4100}
	s.silent("a")
	require.Equal(t, "mons a, c say which client IDs they give", s.gates()["mon-a-anew"])
	s = fewer(t)
	s.node("n1").Spec.Unschedulable = true
	require.Equal(t, "node n1 takes a pod of mon a: it is not ready, cordoned or tainted", s.gates()["mon-a-anew"])
	s = fewer(t)
	s.podOf(mon.Component, "a").DeletionTimestamp = &metav1.Time{Time: moment}
	s.lookup = lookup{}
	s.Cluster.Spec.Resources.Mon.Requests = corev1.ResourceList{"memory": resource.MustParse("3Gi")}
	require.NotContains(t, s.open(), "mon-b", "while one that has yet to end is in quorum")
	require.Equal(t, "the mon before it is back in quorum", s.gates()["mon-b"])

	s = fewer(t)
	s.note("a", 4100)
	s.note("b", 4100+mon.ClientIDRange)
	require.Equal(t, []string{"mon-c-remove"}, with(s.open(), "mon-"))
	s.Ceph.Status.Quorum = []string{"a", "c"}
	p := &planner{o: s.Observed, d: desired(s.Observed, helper)}
	require.Equal(t, "mon b has restarted", p.apartGap("c"), "even where there is a majority without it")
	s.Mons[1].MissingSince = s.Now.Add(-aRestart)
	require.Empty(t, p.apartGap("c"))

	s = fewer(t)
	s.note("a", 4100)
	s.began("a")
	s.Ceph.ClientIDs = map[string]uint64{"a": 4100 + 4*mon.ClientIDRange, "b": 4100, "c": 4101}
	require.Equal(t, "it is written down which client IDs mon a gives", s.gates()["mon-c-remove"])
	require.NotContains(t, s.open(), "mon-b-anew", "else it would not be known of mon a any more")

	s = fewer(t)
	s.only("a", "b")
	s.Mons[2].MissingSince = s.Now.Add(-time.Hour)
	require.Contains(t, s.open(), "mon-a-anew", "of two that are left of three")
	s.podOf(mon.Component, "c").Status.Phase = corev1.PodPending
	require.Contains(t, s.open(), "mon-a-anew", "c goes for that")
	p = &planner{o: s.Observed, d: desired(s.Observed, helper)}
	require.Equal(t, "the pod of mon c has started on node n3 (cordon that where it cannot): until a new pod of mon a has, there is no quorum", p.unstarted(s.Mons[0], "another"))
	s.node("n3").Spec.Unschedulable = true
	require.Empty(t, p.unstarted(s.Mons[0], "another"), "that a pod does not start there says nothing of other nodes")

	s = fewer(t)
	for _, name := range []string{"main-mon-a", "main-mon-b"} {
		s.Deployments[name].Spec.Template.Spec.Containers[0].Env = nil // of an earlier Cairn
	}
	require.Contains(t, s.open(), "mon-c-remove", "it would not help")
}

func TestAMonThatRestartsIsNotChosenToGoForThat(t *testing.T) {
	s := running(t)
	s.Cluster.Spec.Mon.Count = 1
	s.Ceph.Status.Quorum = []string{"b", "c"}
	s.Mons[0].MissingSince = s.Now.Add(-10 * time.Second)
	require.Equal(t, "c", s.retiring(s.Mons).Name)
	s.Mons[0].MissingSince = s.Now.Add(-9 * time.Minute)
	require.Equal(t, "c", s.retiring(s.Mons).Name, "a store may be large, and an image have to be fetched")
	s.Mons[0].MissingSince = s.Now.Add(-10 * time.Minute)
	require.Equal(t, "a", s.retiring(s.Mons).Name)
}

func TestAMonThatGoesDoesNotBeginAnewUntilItIsOutOfTheMonmap(t *testing.T) {
	s := running(t)
	s.Cluster.Spec.Mon.Count = 1
	joined := func() string {
		d := desired(s.Observed, helper)
		return string(d.Keyrings[0].Data[mon.KeyJoined])
	}
	require.Equal(t, "a b c", joined())
	s.Ceph.Status.Mons, s.Ceph.Status.Quorum = []string{"a", "b"}, []string{"a", "b"}
	require.Equal(t, "a b", joined())
}

func TestMonsAreAskedOnceForTheirClientIDs(t *testing.T) {
	s := running(t)
	var asked apart
	require.False(t, asked.open(s.Observed), "all are known")
	s.began("a")
	require.True(t, asked.open(s.Observed))
	s.Ceph.ClientIDsError = ceph.Errorf(ceph.Unreached, "sessions", "none to give")
	asked.note(s.Observed)
	require.True(t, asked.open(s.Observed))
	s.Ceph.ClientIDsError = nil
	s.Ceph.ClientIDs = map[string]uint64{"a": 4100 + 4*mon.ClientIDRange, "b": 4100 + mon.ClientIDRange, "c": 4100 + 2*mon.ClientIDRange}
	asked.note(s.Observed)
	require.True(t, asked.open(s.Observed), "that is to be written down first")
	s.Ceph.ClientIDs["a"] = 4102
	asked.note(s.Observed)
	require.False(t, asked.open(s.Observed))
	s.began("c")
	require.True(t, asked.open(s.Observed))
}
