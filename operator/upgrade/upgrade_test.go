package upgrade

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestParse(t *testing.T) {
	for text, want := range map[string]Version{
		"20.2.4": {20, 2, 4},
		"ceph version 18.2.7 (6b0e988052ec84cf2d4a54ff9bbbc5e720b621ad) reef (stable)\n": {18, 2, 7},
		"ceph version 19.2.0-12.el9 (abc) squid (stable)":                                {19, 2, 0},
	} {
		v, err := Parse(text)
		require.NoError(t, err, text)
		require.Equal(t, want, v)
	}
	for _, text := range []string{"", "latest", "20.2", "version 20.2.4", "sh: ceph-mon: not found", "99999999999999999999.1.1"} {
		_, err := Parse(text)
		require.Error(t, err, text)
	}
}

func releases(mon, mgr, osd, mons, osds string) *ceph.Releases {
	return &ceph.Releases{Daemons: map[string]map[string]int{"mon": {mon: 3}, "mgr": {mgr: 2}, "osd": {osd: 6}}, Mons: mons, OSDs: osds}
}

func TestWhatIsRefused(t *testing.T) {
	reef := releases("18.2.7", "18.2.7", "18.2.7", "reef", "reef")
	for name, test := range map[string]struct {
		now    *ceph.Releases
		target Version
		why    string
	}{
		"two releases on":                {reef, Version{20, 2, 4}, ""},
		"one release on":                 {reef, Version{19, 2, 3}, ""},
		"a correction":                   {reef, Version{18, 2, 8}, ""},
		"a correction back":              {reef, Version{18, 2, 4}, ""},
		"the same":                       {reef, Version{18, 2, 7}, ""},
		"three releases on":              {reef, Version{21, 2, 0}, "3 mons run 18.2.7, and Ceph can be upgraded by at most 2 releases at once. Upgrade to release 20 first, then to 21.2.0"},
		"a release back":                 {reef, Version{17, 2, 7}, "3 mons run 18.2.7, and Ceph cannot go back from there to 17.2.7"},
		"from stable to a candidate":     {reef, Version{18, 1, 9}, "cannot go back"},
		"an OSD is later":                {releases("18.2.7", "18.2.7", "20.2.4", "reef", "reef"), Version{19, 2, 3}, "6 osds run 20.2.4, and Ceph cannot go back"},
		"only a mgr is later":            {releases("18.2.7", "20.2.4", "18.2.7", "reef", "reef"), Version{18, 2, 7}, ""},
		"a version that is none":         {releases("unknown", "18.2.7", "18.2.7", "reef", "reef"), Version{20, 2, 4}, "the version of 3 mons is not known"},
		"the OSD map was left behind":    {releases("18.2.7", "18.2.7", "18.2.7", "reef", "quincy"), Version{20, 2, 4}, "the OSD map still lets daemons of quincy (17) take part, and 20.2.4 is more than 2 releases later"},
		"a map of which nothing is said": {releases("18.2.7", "18.2.7", "18.2.7", "", ""), Version{20, 2, 4}, ""},
	} {
		t.Run(name, func(t *testing.T) {
			why := Refuse(test.target, test.now)
			if test.why == "" {
				require.Empty(t, why)
				return
			}
			require.Contains(t, why, test.why)
		})
	}
}

func TestLowest(t *testing.T) {
	now := releases("18.2.7", "", "20.2.4", "", "")
	now.Daemons["osd"] = map[string]int{"20.2.4": 1, "20.2.3": 1, "20.10.0": 1}
	lowest, known := Lowest(now, "osd")
	require.True(t, known)
	require.Equal(t, "20.2.3", lowest.String())
	_, known = Lowest(now, "mgr")
	require.False(t, known)
}

func TestHealthIsWorseOnlyByWhatTheUpgradeDoesNotBring(t *testing.T) {
	nearfull := ceph.HealthCheck{Code: "OSD_NEARFULL", Severity: "HEALTH_WARN", Summary: "1 nearfull osd(s)"}
	down := ceph.HealthCheck{Code: "OSD_DOWN", Severity: "HEALTH_WARN", Summary: "1 osds down"}
	muted, severe := down, nearfull
	muted.Muted, severe.Severity = true, "HEALTH_ERR"
	for name, test := range map[string]struct {
		before, now []ceph.HealthCheck
		worse       string
	}{
		"well as before":            {nil, nil, ""},
		"ill as before":             {[]ceph.HealthCheck{nearfull}, []ceph.HealthCheck{nearfull}, ""},
		"better than before":        {[]ceph.HealthCheck{nearfull}, nil, ""},
		"less severe than before":   {[]ceph.HealthCheck{severe}, []ceph.HealthCheck{nearfull}, ""},
		"a new check":               {[]ceph.HealthCheck{nearfull}, []ceph.HealthCheck{nearfull, down}, "OSD_DOWN: 1 osds down"},
		"a more severe check":       {[]ceph.HealthCheck{nearfull}, []ceph.HealthCheck{severe}, "OSD_NEARFULL: 1 nearfull osd(s)"},
		"a muted check":             {nil, []ceph.HealthCheck{muted}, ""},
		"muted before, and not now": {[]ceph.HealthCheck{muted}, []ceph.HealthCheck{down}, "OSD_DOWN: 1 osds down"},
		"what the new release says": {nil, []ceph.HealthCheck{{Code: "OSD_UPGRADE_FINISHED"}, {Code: "DAEMON_OLD_VERSION"}, {Code: "AUTH_INSECURE_KEYS_ALLOWED"}}, ""},
	} {
		t.Run(name, func(t *testing.T) { require.Equal(t, test.worse, Worse(Before(test.before), test.now)) })
	}
}

func TestAnImageIsAskedForTheSpecsOptions(t *testing.T) {
	cluster := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	before := PodName(cluster)
	cluster.Spec.Ceph.Config = map[string]v1alpha1.ConfigSection{"osd": {"osd_scrub_sleep": "1", "debug_ms": "1"}, "mgr": {"debug_ms": "2", "mgr/balancer/mode": "none"}}
	require.NotEqual(t, before, PodName(cluster), "other options are another question")
	require.Equal(t, []string{"sh", "debug_ms", "osd_scrub_sleep"}, Pod(cluster).Spec.Containers[0].Command[3:])
	require.Equal(t, []string{"osd_scrub_sleep"}, Unknown("ceph version 21.2.0 (0123) umbrella (stable)\nunknown option: osd_scrub_sleep\n"))
	require.Empty(t, Unknown("ceph version 21.2.0 (0123) umbrella (stable)"))
}
