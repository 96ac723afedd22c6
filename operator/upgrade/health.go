package upgrade

import (
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// expected are health checks that a later release raises because the upgrade is
// not over, or because it is stricter: they say nothing about how it goes.
var expected = []string{"OSD_UPGRADE_FINISHED", "DAEMON_OLD_VERSION"}

// insecure begins the checks by which Tentacle dislikes the keys of earlier releases.
const insecure = "AUTH_INSECURE_"

// Before are the health checks to compare with later.
func Before(checks []ceph.HealthCheck) (before []v1alpha1.HealthCheck) {
	for _, check := range checks {
		if !check.Muted {
			before = append(before, v1alpha1.HealthCheck(check))
		}
	}
	return before
}

// Worse says which health checks have come since, or become more severe; empty
// when none has.
func Worse(before []v1alpha1.HealthCheck, now []ceph.HealthCheck) string {
	var worse []string
	for _, check := range now {
		if check.Muted || slices.Contains(expected, check.Code) || strings.HasPrefix(check.Code, insecure) {
			continue
		}
		if !slices.ContainsFunc(before, func(b v1alpha1.HealthCheck) bool {
			return b.Code == check.Code && (b.Severity == check.Severity || b.Severity == "HEALTH_ERR")
		}) {
			worse = append(worse, check.Code+": "+check.Summary)
		}
	}
	return strings.Join(worse, "; ")
}
