package cluster

import (
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

const nextImage = "ceph:next"

// changed is a running cluster of which the spec asks for another image, which
// has not been asked for its version.
func changed(t *testing.T) *scene {
	s := running(t)
	s.Cluster.Status.Image = upgrade.Shipped
	s.Cluster.Spec.Ceph.Image = nextImage
	s.runs(3, 2, 6, 0, 0, 0)
	return s
}

// runs says how many mons, mgrs and OSDs run 20.2.4 and 21.2.0.
func (s *scene) runs(mons, mgrs, osds, newMons, newMgrs, newOSDs int) {
	s.Ceph.Releases = &ceph.Releases{Mons: "tentacle", OSDs: "tentacle", Daemons: map[string]map[string]int{
		"mon": {"20.2.4": mons, "21.2.0": newMons}, "mgr": {"20.2.4": mgrs, "21.2.0": newMgrs}, "osd": {"20.2.4": osds, "21.2.0": newOSDs}}}
	for _, versions := range s.Ceph.Releases.Daemons {
		for version, count := range versions {
			if count == 0 {
				delete(versions, version)
			}
		}
	}
}

// answer has the pod say the image's version; an empty one has it start still.
func (s *scene) answer(said string) {
	pod := upgrade.Pod(s.Cluster)
	pod.Namespace = s.Cluster.Namespace
	if said != "" {
		pod.Status = corev1.PodStatus{Phase: corev1.PodSucceeded, ContainerStatuses: []corev1.ContainerStatus{{
			State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: said}}}}}
	}
	s.Pods = []corev1.Pod{*pod}
}

// recorded is a changed cluster whose status says what it was like before.
func recorded(t *testing.T) *scene {
	s := changed(t)
	s.Cluster.Status.Upgrade = &v1alpha1.UpgradeStatus{Image: nextImage, From: "20.2.4", Version: "21.2.0", Began: metav1.NewTime(moment)}
	return s
}

// got gives daemons the image, rolled out.
func (s *scene) got(daemons ...string) {
	d := desired(s.Observed, helper)
	for _, o := range append(append(d.MonDeployments, d.MgrDeployments...), d.OSDDeployments...) {
		if slices.Contains(daemons, strings.TrimPrefix(o.Name, "main-")) {
			o = stamped(s.t, o)
			o.Generation, o.Status = 1, rolledOut(1)
			s.Deployments[o.Name] = o
		}
	}
}

func TestAnImageIsAskedBeforeAnythingElse(t *testing.T) {
	s := changed(t)
	require.Equal(t, []string{"version"}, s.open())
	require.Equal(t, "the image ceph:next has said which version of Ceph it is", s.gates()["mgr-b"])
	s.answer("")
	require.Empty(t, s.open())
	s.answer("ceph version 21.2.0 (0123) umbrella (stable)")
	require.Empty(t, s.open())
	require.Equal(t, "the status says how healthy the cluster is before the upgrade", s.gates()["mgr-b"])

	s.Ceph.Status.Checks = []ceph.HealthCheck{{Code: "OSD_NEARFULL", Severity: "HEALTH_WARN"}}
	s.Cluster.Status = s.status()
	require.Equal(t, &v1alpha1.UpgradeStatus{Image: nextImage, From: "20.2.4", Version: "21.2.0", Began: metav1.NewTime(moment), Progress: "0/11",
		HealthBefore: []v1alpha1.HealthCheck{{Code: "OSD_NEARFULL", Severity: "HEALTH_WARN"}}}, s.Cluster.Status.Upgrade)
	require.Equal(t, []string{"mgr-b", "version-asked"}, s.open())
	s.Now = moment.Add(time.Hour)
	require.Equal(t, s.Cluster.Status.Upgrade, s.status().Upgrade, "what was before stays")
}

func TestTheCanaryIsAMgrThatIsMissedLeast(t *testing.T) {
	for name, test := range map[string]struct {
		happens func(*scene)
		want    string
	}{
		"one that stands by":      {func(*scene) {}, "mgr-b"},
		"the other one":           {func(s *scene) { s.Ceph.Status.ActiveMgr = "b" }, "mgr-a"},
		"one that does not run":   {func(s *scene) { s.Deployments["main-mgr-a"].Status.AvailableReplicas = 0 }, "mgr-a"},
		"the only one":            {func(s *scene) { s.Cluster.Spec.Mgr.Count = 1 }, "mgr-a"},
		"however ill Ceph is":     {func(s *scene) { s.Ceph.Status.Checks = []ceph.HealthCheck{{Code: "SLOW_OPS"}} }, "mgr-b"},
		"also without active mgr": {func(s *scene) { s.Ceph.Status.ActiveMgr = "" }, "mgr-a"},
	} {
		t.Run(name, func(t *testing.T) {
			s := recorded(t)
			test.happens(s)
			require.Equal(t, []string{test.want}, s.open())
			require.Equal(t, test.want, s.plan()[0].Name, "it stands first in the plan")
			require.Equal(t, "a mgr runs 21.2.0, before any other daemon does", s.gates()["mon-a"])
		})
	}
}

// stages of an upgrade: who has the image, what Ceph says, what may be done then,
// and what the others wait for.
var stages = map[string]struct {
	got   []string
	runs  [6]int
	also  func(*scene)
	open  []string
	gates map[string]string
}{
	"the canary has not told Ceph": {[]string{"mgr-b"}, [6]int{3, 2, 6}, nil, nil,
		map[string]string{"mon-a": "a mgr runs 21.2.0, before any other daemon does", "mgr-a": "a mgr runs 21.2.0, before any other daemon does"}},
	"the canary does not run": {[]string{"mgr-b"}, [6]int{3, 1, 6, 0, 1, 0}, func(s *scene) { s.Deployments["main-mgr-b"].Status.AvailableReplicas = 0 }, nil,
		map[string]string{"mon-a": "a mgr runs 21.2.0, before any other daemon does"}},
	"the canary runs": {[]string{"mgr-b"}, [6]int{3, 1, 6, 0, 1, 0}, nil, []string{"mon-a"},
		map[string]string{"mon-b": "the mon before it is back in quorum", "mgr-a": "all mons run 21.2.0 (0 of 3 do)", "osd-0": "all mons run 21.2.0 (0 of 3 do)",
			"require-osd-release": "all OSDs run 21.2.0"}},
	"a mon starts still": {[]string{"mgr-b", "mon-a"}, [6]int{3, 1, 6, 0, 1, 0}, nil, nil,
		map[string]string{"mon-b": "each mon that has ceph:next tells Ceph that it runs 21.2.0 (0 of 1 do)"}},
	"a mon is out of quorum": {[]string{"mgr-b", "mon-a"}, [6]int{2, 1, 6, 1, 1, 0}, func(s *scene) { s.Ceph.Status.Quorum = []string{"b", "c"} }, []string{"main-mon-a"},
		map[string]string{"mon-b": "mon a is in quorum"}},
	"the mons are done": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c"}, [6]int{0, 1, 6, 3, 1, 0}, nil, []string{"mgr-a"},
		map[string]string{"osd-0": "all mgrs run 21.2.0 (1 of 2 do)"}},
	"the mgrs are done": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a"}, [6]int{0, 0, 6, 3, 2, 0},
		func(s *scene) { s.Ceph.MayStop = MayStop{Asked: []int{0, 1}, IDs: []int{0, 1}} }, []string{"osd-0", "osd-1"},
		map[string]string{"osd-2": "the OSDs before it have restarted"}},
	"one OSD of a node may stop": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a"}, [6]int{0, 0, 6, 3, 2, 0},
		func(s *scene) { s.Ceph.MayStop = MayStop{Asked: []int{0, 1}, IDs: []int{0}} }, []string{"osd-0"},
		map[string]string{"osd-1": "the OSDs before it have restarted"}},
	"no OSD may stop": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a"}, [6]int{0, 0, 6, 3, 2, 0},
		func(s *scene) { s.Ceph.MayStop = MayStop{Asked: []int{0, 1}, Why: "Ceph lets osd.0 stop (unsafe)"} }, nil,
		map[string]string{"osd-0": "Ceph lets osd.0 stop (unsafe)", "osd-2": "the OSDs before it have restarted"}},
	"an OSD is down": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a"}, [6]int{0, 0, 6, 3, 2, 0},
		func(s *scene) { s.Ceph.OSDs[5].Up, s.Ceph.Status.OSDsUp = false, 5 }, []string{"osd-5"}, // it may be what mends it
		map[string]string{"osd-0": "all OSDs are up (5 of 6 are)"}},
	"PGs are not clean": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a", "osd-0", "osd-1"}, [6]int{0, 0, 4, 3, 2, 2},
		func(s *scene) { s.Ceph.Status.PGs = map[string]int{"active+undersized": 3} }, nil,
		map[string]string{"osd-2": "all PGs are active+clean (3 are active+undersized)"}},
	"an OSD is up as it was before its restart": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a", "osd-0", "osd-1"}, [6]int{0, 0, 5, 3, 2, 1}, nil, nil,
		map[string]string{"osd-2": "each osd that has ceph:next tells Ceph that it runs 21.2.0 (1 of 2 do)"}},
	"all have it": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a", "osd-0", "osd-1", "osd-2", "osd-3", "osd-4", "osd-5"}, [6]int{0, 0, 0, 3, 2, 6}, nil, nil,
		map[string]string{"require-osd-release": "the mons have agreed on release 21 (tentacle now)"}},
	"the mons have agreed": {[]string{"mgr-b", "mon-a", "mon-b", "mon-c", "mgr-a", "osd-0", "osd-1", "osd-2", "osd-3", "osd-4", "osd-5"}, [6]int{0, 0, 0, 3, 2, 6},
		func(s *scene) { s.Ceph.Releases.Mons = "umbrella" }, []string{"require-osd-release"}, nil},
	"health is worse": {[]string{"mgr-b"}, [6]int{3, 1, 6, 0, 1, 0}, func(s *scene) { s.Ceph.Status.Checks = []ceph.HealthCheck{{Code: "SLOW_OPS", Summary: "3 slow ops"}} }, nil,
		map[string]string{"mon-a": "Ceph's health is as it was before the upgrade (now SLOW_OPS: 3 slow ops)"}},
}

func TestTheStagesOfAnUpgrade(t *testing.T) {
	for name, test := range stages {
		t.Run(name, func(t *testing.T) {
			s := recorded(t)
			s.got(test.got...)
			s.runs(test.runs[0], test.runs[1], test.runs[2], test.runs[3], test.runs[4], test.runs[5])
			if test.also != nil {
				test.also(s)
			}
			require.Equal(t, test.open, s.open())
			gates := s.gates()
			for step, gate := range test.gates {
				require.Equal(t, gate, gates[step], step)
			}
			require.Equal(t, fmt.Sprintf("%d/11", len(test.got)-strings.Count(name, "the canary does not run")), fmt.Sprint(s.status().Upgrade.Progress))
		})
	}
}

func TestWhatADaemonThatJustStartedDoesToHealthIsNoHalt(t *testing.T) {
	s := recorded(t)
	s.got("mgr-b", "mon-a")
	s.runs(2, 1, 6, 1, 1, 0)
	s.Ceph.Status.Checks = []ceph.HealthCheck{{Code: "MON_DOWN", Summary: "1/3 mons down"}}
	s.Ceph.Status.Quorum = []string{"b", "c"}
	s.Pods = []corev1.Pod{{ObjectMeta: metav1.ObjectMeta{Labels: map[string]string{kube.LabelComponent: "mon"}}, Status: corev1.PodStatus{StartTime: &metav1.Time{Time: moment.Add(-settle / 2)}}}}
	require.Equal(t, "mon a is in quorum", s.gates()["mon-b"])
	require.Equal(t, v1alpha1.ReasonNotSafeToRestart, s.blockedBy())
	s.Now = moment.Add(settle)
	require.Equal(t, v1alpha1.ReasonUpgradeHalted, s.blockedBy())
	require.Contains(t, s.status().Blocker.Message, "MON_DOWN: 1/3 mons down")
}

// blockedBy is the reason of the blocker once what may be done now is done.
func (s *scene) blockedBy() string {
	var waiting []Step
	for _, one := range s.plan() {
		if one.Gate != "" || one.Wait {
			waiting = append(waiting, one)
		}
	}
	return status(s.Observed, desired(s.Observed, helper), waiting).Blocker.Reason
}

func TestTheOnlyMonThatDoesNotRunIsTakenBackWithoutAQuorum(t *testing.T) {
	s := recorded(t)
	s.got("mgr-b", "mon-a")
	s.Deployments["main-mon-a"].Status.AvailableReplicas = 0
	s.Ceph = nil
	s.Cluster.Spec.Ceph.Image = upgrade.Shipped
	require.Equal(t, []string{"mon-a"}, with(s.open(), "mon-"))
	s.Deployments["main-mon-a"].Status.AvailableReplicas = 1
	require.Empty(t, with(s.open(), "mon-"))
}

func TestTheFirstKeysAreOfATypeThatTheImageKnows(t *testing.T) {
	s := empty(t)
	s.Cluster.Spec.Ceph.Image = nextImage
	require.Equal(t, []string{"version"}, with(s.open(), "version"))
	require.Equal(t, "the image ceph:next has said which version of Ceph it is", s.gates()["keys"])
	for said, size := range map[string]int{"ceph version 18.2.7 (0) reef (stable)": 40, "ceph version 20.2.4 (0) tentacle (stable)": 60} {
		s.answer(said)
		require.Contains(t, s.open(), "keys")
		key, err := s.newKey()
		require.NoError(t, err)
		require.Len(t, key.Reveal(), size)
	}
}

func TestTheNodeThatWasBegunWithIsNext(t *testing.T) {
	s := recorded(t)
	require.Equal(t, []int{0, 1}, s.next())
	s.got("osd-3")
	require.Equal(t, []int{2}, s.next(), "the other OSD of the same node")
	s.Ceph.OSDs[2].Up = false
	require.Equal(t, []int{0, 1}, s.next(), "one that is down need not stop")
}

// stopper is a Ceph that lets as many OSDs stop together.
type stopper struct {
	ceph.Conn
	most int
	err  error
}

func (s stopper) NotOKToStop(_ context.Context, ids []int) (string, error) {
	if len(ids) > s.most {
		return "unsafe", s.err
	}
	return "", s.err
}

func TestOSDsOfANodeStopTogetherOrOneByOneOrNotAtAll(t *testing.T) {
	for most, want := range []MayStop{{Asked: []int{4, 5}, Why: "Ceph lets osd.4 stop (unsafe)"}, {Asked: []int{4, 5}, IDs: []int{4}}, {Asked: []int{4, 5}, IDs: []int{4, 5}}} {
		got := askMayStop(t.Context(), stopper{most: most}, []int{4, 5})
		if len(got.IDs) > 0 {
			got.Why = ""
		}
		require.Equal(t, want, got)
	}
	got := askMayStop(t.Context(), stopper{most: 2, err: errors.New("timed out")}, []int{4, 5})
	require.Empty(t, got.IDs)
	require.Contains(t, got.Why, "timed out")
	require.Equal(t, MayStop{}, askMayStop(t.Context(), stopper{}, nil))
}
