package cluster

import (
	"fmt"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// What an image is shows when it is asked. Until then it is taken for what its tag
// says, or for the version that runs.

// assumed is the version that the spec's image is taken for, and the sentence that says so.
func (w *imagined) assumed() (version, why string) {
	image := w.Cluster.Spec.Ceph.Image
	if v, err := upgrade.Parse(image[strings.LastIndex(image, ":")+1:]); err == nil {
		return v.String(), fmt.Sprintf("%s is Ceph %s, as its tag has it", image, v)
	}
	if w.Ceph != nil && w.Ceph.Releases != nil {
		if v, known := upgrade.Lowest(w.Ceph.Releases, mon.Component); known {
			return v.String(), fmt.Sprintf("%s is Ceph %s, as the mons are now", image, v)
		}
	}
	return upgrade.ShippedVersion, fmt.Sprintf("%s is Ceph %s, as Cairn's own image is", image, upgrade.ShippedVersion)
}

// answer has a pod that was made to ask an image say what that is taken for.
func (w *imagined) answer(pod *corev1.Pod) {
	said, why := w.assumed()
	w.assumes = append(w.assumes, why)
	pod.Status.Phase = corev1.PodSucceeded
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{State: corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{Message: said}}}}
	w.Pods = append(w.Pods, *pod)
}

// settleUpgrade has daemons say which version they run, Ceph let the next OSDs stop,
// and the status keep what an upgrade must know of its beginning.
func (w *imagined) settleUpgrade() {
	before := w.Ceph.Releases
	version, known := w.version()
	if before == nil || !known {
		return
	}
	now := &ceph.Releases{Daemons: map[string]map[string]int{}, Mons: before.Mons, OSDs: before.OSDs}
	for _, kind := range kinds {
		now.Daemons[kind] = map[string]int{}
		from, _ := upgrade.Lowest(before, kind)
		for _, d := range w.ofKind(kind) {
			runs := from.String()
			if imageOf(d) == w.Cluster.Spec.Ceph.Image {
				runs = version.String()
			}
			now.Daemons[kind][runs]++
		}
	}
	if lowest, _ := upgrade.Lowest(now, mon.Component); lowest.Release == version.Release {
		now.Mons = string(rune('a' + version.Release - 1)) // its name's first letter, which is its number
	}
	w.Ceph.Releases = now
	if w.Observed.changing() && unclean(w.Ceph) == "" {
		next := w.next()
		w.Ceph.MayStop = MayStop{Asked: next, IDs: next}
	}
	upgradeStatus(&w.Cluster.Status, w.Observed)
}
