package e2e

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/api/resource"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

// capacityIsTold asks for volumes that the quota of a pool does not leave room
// for: the scheduler does not choose the pool, and the driver refuses with figures.
func capacityIsTold(t *testing.T) {
	const later = "small-later"
	apply(t, class{name: later, pool: small, fsid: fsid(t), filesystem: "ext4", later: true})
	require.NoError(t, kubectl.Until(bounded(t), "the room in the class to be published", func() (bool, string) {
		seen, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "get", "csistoragecapacities", "-o",
			`jsonpath={range .items[*]}{.storageClassName} {.maximumVolumeSize} {.capacity}{"\n"}{end}`)
		return err == nil && fits(seen, later, "1Gi"), seen
	}))

	apply(t, claim{name: "too-large", class: later, size: "5Gi"}, pod{name: "too-large", filesystems: []string{"too-large"}},
		claim{name: "refused", class: small, size: "5Gi"},
		claim{name: "fitting", class: later, size: "256Mi"}, pod{name: "fitting", filesystems: []string{"fitting"}})
	t.Log(event(t, "Pod/too-large", "FailedScheduling", "did not have enough free storage"))
	t.Log(event(t, "PersistentVolumeClaim/refused", "ResourceExhausted", "5368709120 bytes are more than", "quota of pool small", "of 1073741824"))
	running(t, "fitting")
	phase, err := kubectl.Get(bounded(t), namespace, "pvc/too-large", "{.status.phase}")
	require.NoError(t, err)
	require.Equal(t, "Pending", phase)
	drop(t, "pod/too-large", "pod/fitting", "pvc/too-large", "pvc/fitting", "pvc/refused")
	nothingLeftIn(t, small)
	fullIsTold(t)
	_, err = kubectl.Run(bounded(t), "-n", kubectl.Namespace, "delete", "blockpool", small, "--timeout=2m")
	require.NoError(t, err)
}

// fullIsTold uses up the quota of a pool, and raises it.
func fullIsTold(t *testing.T) {
	quota := func(size, reason string) {
		t.Helper()
		_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "patch", "blockpool", small, "--type=merge", "-p", `{"spec":{"quota":"`+size+`"}}`)
		require.NoError(t, err)
		require.NoError(t, kubectl.UntilField(bounded(t), kubectl.Namespace, "blockpool/"+small, `{.status.conditions[?(@.type=="Ready")].reason}`, reason))
	}
	quota("64Mi", "AsSpecified")
	inCeph(t, "timeout 30 rados -p "+small+" bench 10 write -b 4194304 --max-objects 17 --run-name full --no-cleanup >/dev/null; true")
	quota("64Mi", "Full")
	said, err := kubectl.Get(bounded(t), kubectl.Namespace, "blockpool/"+small, `{.status.conditions[?(@.type=="Ready")].message}`)
	require.NoError(t, err)
	t.Log(said)
	quota("1Gi", "AsSpecified")
	inCeph(t, "rados -p "+small+" cleanup --run-name full")
}

// fits reports whether a class's room is published and not more than a limit.
func fits(published, class, limit string) bool {
	most := resource.MustParse(limit)
	for line := range strings.Lines(published) {
		f := strings.Fields(line)
		if len(f) != 3 || f[0] != class {
			continue
		}
		largest, err := resource.ParseQuantity(f[1])
		if err != nil || largest.Sign() <= 0 || largest.Cmp(most) > 0 {
			return false
		}
		return true
	}
	return false
}
