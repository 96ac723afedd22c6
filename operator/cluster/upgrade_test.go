package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

const reef = "cairn.storage/ceph:18.2.7"

// reefSite is a converged cluster of Reef.
func reefSite(t *testing.T) *site {
	s := newSite(t, func(c *v1alpha1.StorageCluster) { c.Spec.Ceph.Image = reef })
	s.images()
	c := s.converge()
	require.Equal(t, map[string]int32{"18.2.7": 8}, c.Status.Versions)
	require.Equal(t, reef, c.Status.Image)
	s.look() // the keyrings of OSDs that are up say so
	return s
}

func (s *site) images() {
	s.Image(reef, "18.2.7")
	s.Image("quincy", "17.2.8")
	s.Image("later", "21.2.0")
	s.Image("nonsense", "latest")
}

func (s *site) upgradeTo(image string) {
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Ceph.Image = image })
}

// inOrder is how an undisturbed upgrade goes.
var inOrder = []string{
	"mgr-b 18.2.7 → 20.2.4", "mon-a 18.2.7 → 20.2.4", "mon-b 18.2.7 → 20.2.4", "mon-c 18.2.7 → 20.2.4",
	"mgr-a 18.2.7 → 20.2.4", "osd-0 18.2.7 → 20.2.4", "osd-1 18.2.7 → 20.2.4", "osd-2 18.2.7 → 20.2.4",
}

// upgraded requires that all daemons, and the OSD map, are of Tentacle.
func (s *site) upgraded(c *v1alpha1.StorageCluster) {
	s.t.Helper()
	require.Equal(s.t, map[string]int32{"20.2.4": 8}, c.Status.Versions)
	require.Equal(s.t, upgrade.Shipped, c.Status.Image)
	require.Nil(s.t, c.Status.Upgrade)
	require.Empty(s.t, s.Wrong())
	require.ElementsMatch(s.t, inOrder, s.Restarts(), "each daemon restarts once")
	conn, err := s.Ceph.Connect(s.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(s.t, err)
	seen, err := conn.Releases(s.t.Context())
	require.NoError(s.t, err)
	require.Equal(s.t, "tentacle", seen.OSDs)
}

func TestAnUpgradeGoesFromACanaryToTheOSDs(t *testing.T) {
	s := reefSite(t)
	s.upgradeTo(upgrade.Shipped)
	s.looksUntil("the canary has restarted", func() bool { return len(s.Restarts()) > 0 })
	c := s.cluster()
	require.Equal(t, "18.2.7", c.Status.Upgrade.From)
	require.Equal(t, "20.2.4", c.Status.Upgrade.Version)
	require.Equal(t, "0/8", c.Status.Upgrade.Progress)
	plan := fmt.Sprint(c.Status.Plan)
	for _, want := range []string{"upgrade mgr-b to 20.2.4", "upgrade mon-c to 20.2.4", "upgrade osd-2 to 20.2.4 on node node3", "let only OSDs of release 20 or later take part"} {
		require.Contains(t, plan, want)
	}
	s.upgraded(s.converge())
	require.Equal(t, inOrder, s.Restarts())
	require.Empty(t, s.errors)
	s.look()
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
	require.Nil(t, s.versionPod(), "the pod that asked is gone")
}

func (s *site) versionPod() client.Object {
	var pods corev1.PodList
	require.NoError(s.t, s.Client.List(s.t.Context(), &pods, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: upgrade.Component}))
	if len(pods.Items) == 0 {
		return nil
	}
	return &pods.Items[0]
}

// halted requires that an upgrade stands still, with a reason.
func (s *site) halted(reason string, says ...string) {
	s.t.Helper()
	s.looks(3)
	before := s.Restarts()
	s.looks(10)
	require.Equal(s.t, before, s.Restarts(), "nothing restarts")
	b := s.cluster().Status.Blocker
	require.NotNil(s.t, b)
	require.Equal(s.t, reason, b.Reason, b.Message)
	for _, words := range says {
		require.Contains(s.t, b.Message, words)
	}
	require.Empty(s.t, s.Wrong())
}

func TestAnUpgradeHaltsWhenHealthWorsensAndGoesOnWhenItIsMended(t *testing.T) {
	s := reefSite(t)
	nearfull := ceph.HealthCheck{Code: "OSD_NEARFULL", Severity: "HEALTH_WARN", Summary: "1 nearfull osd(s)"}
	s.Ceph.SetChecks(nearfull)
	s.upgradeTo(upgrade.Shipped)
	s.looksUntil("two mons are upgraded", func() bool { return len(s.Restarts()) == 3 })
	s.Ceph.SetChecks(nearfull, ceph.HealthCheck{Code: "SLOW_OPS", Severity: "HEALTH_WARN", Summary: "3 slow ops, mon.a has slow ops"})
	s.halted(v1alpha1.ReasonUpgradeHalted, "from 18.2.7 to 20.2.4", "SLOW_OPS: 3 slow ops", "'upgrade mon-c to 20.2.4' waits")
	require.NotContains(t, s.cluster().Status.Blocker.Message, "NEARFULL", "that was so before")
	require.Equal(t, "3/8", s.cluster().Status.Upgrade.Progress)
	s.Restart() // a new operator knows what was before
	s.halted(v1alpha1.ReasonUpgradeHalted)
	s.Ceph.SetChecks(nearfull)
	s.upgraded(s.converge())
}

func TestOSDsWaitForCleanPGsAndForCephsLeave(t *testing.T) {
	s := reefSite(t)
	s.upgradeTo(upgrade.Shipped)
	s.looksUntil("an OSD is upgraded", func() bool { return len(s.Restarts()) == 6 })
	s.Ceph.SetRecovering(true)
	s.halted(v1alpha1.ReasonNotSafeToRestart, "'upgrade osd-1 to 20.2.4 on node node2' waits until all PGs are active+clean (8 are active+undersized+degraded)")
	s.Ceph.SetRecovering(false)
	s.upgraded(s.converge())
}

func TestWhatCephCannotDoIsRefusedBeforeAnythingRestarts(t *testing.T) {
	for image, says := range map[string]string{
		"quincy":   "3 mons run 18.2.7, and Ceph cannot go back from there to 17.2.8",
		"later":    "3 mons run 18.2.7, and Ceph can be upgraded by at most 2 releases at once. Upgrade to release 20 first, then to 21.2.0",
		"nonsense": "it does not say which version of Ceph it is",
		"typo":     "ErrImagePull: failed to pull typo: not found. No daemon was restarted. Correct it, or set it back to cairn.storage/ceph:18.2.7",
	} {
		t.Run(image, func(t *testing.T) {
			s := reefSite(t)
			shape := s.shape()
			s.upgradeTo(image)
			reason := v1alpha1.ReasonUpgradeRefused
			if image == "nonsense" || image == "typo" {
				reason = v1alpha1.ReasonImageUnusable
			}
			s.halted(reason, image, says)
			require.Empty(t, s.Restarts())
			require.Equal(t, map[string]int32{"18.2.7": 8}, s.cluster().Status.Versions)

			s.upgradeTo(reef)
			s.converge()
			s.look()
			require.Empty(t, s.Restarts())
			require.Equal(t, shape, s.shape())
		})
	}
}

func TestAReleaseIsNotTakenBackOnceAMonHasIt(t *testing.T) {
	s := reefSite(t)
	s.upgradeTo(upgrade.Shipped)
	s.looksUntil("a mon is upgraded", func() bool { return len(s.Restarts()) == 2 })
	s.upgradeTo(reef)
	s.halted(v1alpha1.ReasonUpgradeRefused, "1 mon runs 20.2.4, and Ceph cannot go back from there to 18.2.7")
	s.upgradeTo(upgrade.Shipped)
	s.upgraded(s.converge())
}

func TestACanaryThatDoesNotRunIsTheOnlyOneTouchedAndIsTakenBack(t *testing.T) {
	s := reefSite(t)
	s.Crash(upgrade.Shipped, true)
	s.upgradeTo(upgrade.Shipped)
	s.looksUntil("the canary was tried", func() bool { return len(s.Restarts()) == 1 })
	s.halted(v1alpha1.ReasonPodFailing, "mgr-b (pod ", "ends again and again")
	require.Equal(t, []string{"mgr-b 18.2.7 → 20.2.4"}, s.Restarts())

	s.upgradeTo(reef)
	c := s.converge()
	require.Equal(t, map[string]int32{"18.2.7": 8}, c.Status.Versions)
	require.Nil(t, c.Status.Upgrade)
	require.Equal(t, reef, c.Status.Image)
	require.Equal(t, []string{"mgr-b 18.2.7 → 20.2.4", "mgr-b 20.2.4 → 18.2.7"}, s.Restarts())
}

func TestAnotherImageReplacesACanaryThatDoesNotRun(t *testing.T) {
	s := reefSite(t)
	s.Image("broken", "20.2.3")
	s.Crash("broken", true)
	s.upgradeTo("broken")
	s.looksUntil("the canary was tried", func() bool { return len(s.Restarts()) == 1 })
	s.halted(v1alpha1.ReasonPodFailing, "mgr-b")
	s.upgradeTo(upgrade.Shipped)
	c := s.converge()
	require.Equal(t, map[string]int32{"20.2.4": 8}, c.Status.Versions)
	require.Equal(t, "mgr-b 20.2.3 → 20.2.4", s.Restarts()[1])
	require.Len(t, s.Restarts(), 9)
	require.Empty(t, s.Wrong())
}

func TestADaemonMadeDuringAnUpgradeIsOfTheReleaseThatItsKindHas(t *testing.T) {
	s := reefSite(t)
	s.upgradeTo(upgrade.Shipped)
	s.looksUntil("a mon is upgraded", func() bool { return len(s.Restarts()) == 2 })
	s.Ceph.SetChecks(ceph.HealthCheck{Code: "SLOW_OPS", Severity: "HEALTH_WARN"})
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
	s.looksUntil("the OSD is up", func() bool { return s.cluster().Status.OSDs.Summary == "4/4" })
	require.Equal(t, map[string]int32{"18.2.7": 7, "20.2.4": 2}, s.cluster().Status.Versions)
	require.Empty(t, s.Wrong())
	s.Ceph.SetChecks()
	require.Equal(t, map[string]int32{"20.2.4": 9}, s.converge().Status.Versions)
	require.Empty(t, s.Wrong())
}

func TestAnUpgradeOfTheOperatorRestartsNoDaemon(t *testing.T) {
	s := reefSite(t)
	before, writes := s.templates(), len(s.Writes())
	c := s.cluster()
	for range 5 {
		died, err := s.Operator(func() error {
			r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:next"}
			_, err := r.Reconcile(t.Context(), c)
			return err
		})
		require.NoError(t, err)
		require.False(t, died)
		s.Step()
	}
	require.Empty(t, s.Writes()[writes:])
	require.Equal(t, before, s.templates())
	require.Empty(t, s.Restarts())
}

// templates of the daemons' pods, by Deployment.
func (s *site) templates() map[string]corev1.PodTemplateSpec {
	var deployments appsv1.DeploymentList
	require.NoError(s.t, s.Client.List(s.t.Context(), &deployments, client.InNamespace(s.Namespace)))
	out := map[string]corev1.PodTemplateSpec{}
	for _, d := range deployments.Items {
		out[d.Name] = d.Spec.Template
	}
	return out
}

// What an operator with a bug would do is seen by what judges the sweeps.
func TestTheJudgeOfUpgradesSeesPlantedBugs(t *testing.T) {
	for name, test := range map[string]struct {
		bugs [][]string // Deployments that get the image together, by turns
		to   string
		says string
	}{
		"two mons together":         {[][]string{{"mgr-b"}, {"mon-a", "mon-b"}}, upgrade.Shipped, "1 of 3 mons are left while others restart"},
		"no canary":                 {[][]string{{"mon-a"}}, upgrade.Shipped, "mon-a got 20.2.4 before any mgr"},
		"an OSD before the mons":    {[][]string{{"mgr-b"}, {"osd-0"}}, upgrade.Shipped, "osd-0 got 20.2.4 before all mons"},
		"OSDs of two nodes":         {[][]string{{"mgr-b"}, {"mon-a"}, {"mon-b"}, {"mon-c"}, {"osd-0", "osd-1"}}, upgrade.Shipped, "OSDs of 2 nodes restart together"},
		"a mon beside an OSD":       {[][]string{{"mgr-b"}, {"mon-a", "osd-0"}}, upgrade.Shipped, "mons and OSDs restart together"},
		"a release back":            {[][]string{{"osd-0"}}, "quincy", "osd-0 went back from 18.2.7 to 17.2.8"},
		"an OSD map that is hasty":  {nil, "", "the OSD map requires tentacle, and an OSD runs release 18"},
		"the order that is correct": {[][]string{{"mgr-b"}, {"mon-a"}, {"mon-b"}, {"mon-c"}, {"mgr-a"}, {"osd-0"}, {"osd-1"}, {"osd-2"}}, upgrade.Shipped, ""},
	} {
		t.Run(name, func(t *testing.T) {
			s := reefSite(t)
			for _, together := range test.bugs {
				s.setImage(test.to, together...)
				s.Step()
			}
			if test.bugs == nil {
				s.Ceph.SetReleases("reef", "tentacle")
				s.Step()
			}
			if test.says == "" {
				require.Empty(t, s.Wrong())
				return
			}
			require.True(t, slices.Contains(s.Wrong(), test.says), "%q", s.Wrong())
		})
	}
}

func (s *site) setImage(image string, daemons ...string) {
	for _, daemon := range daemons {
		var d appsv1.Deployment
		require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.name + "-" + daemon}, &d))
		d.Spec.Template.Spec.Containers[0].Image = image
		require.NoError(s.t, s.Client.Update(s.t.Context(), &d))
	}
}

func TestTheShippedImageIsTheDefault(t *testing.T) {
	s := newSite(t)
	require.Equal(t, upgrade.Shipped, s.cluster().Spec.Ceph.Image)
	require.True(t, strings.HasSuffix(upgrade.Shipped, ":"+upgrade.ShippedVersion))
	s.converge()
	require.Nil(t, s.versionPod(), "an image that is known is not asked")
}
