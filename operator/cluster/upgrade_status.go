package cluster

import (
	"fmt"
	"strconv"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// imageUnusable: the image cannot be asked, or what it says is no version.
func imageUnusable(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	pod := o.pod(upgrade.PodName(o.Cluster))
	if pod == nil {
		return nil
	}
	why := ""
	if said, done := upgrade.Answer(pod); done {
		if _, err := upgrade.Parse(said); err != nil {
			why = fmt.Sprintf("it does not say which version of Ceph it is: %v", err)
		}
	} else if unfit := unschedulable(pod); unfit != "" {
		why = fmt.Sprintf("pod %s cannot be scheduled: %s", pod.Name, unfit)
	}
	for i := range pod.Status.ContainerStatuses {
		if failed := failing(&pod.Status.ContainerStatuses[i]); failed != "" {
			why = fmt.Sprintf("pod %s on node %s %s", pod.Name, pod.Spec.NodeName, failed)
		}
	}
	if why == "" {
		return nil
	}
	back := ""
	if before := o.Cluster.Status.Image; before != "" {
		back = ", or set it back to " + before
	}
	return blocker(v1alpha1.ReasonImageUnusable, "spec.ceph.image %s cannot be used: %s. No daemon was restarted. Correct it%s", o.Cluster.Spec.Ceph.Image, why, back)
}

// upgradeRefused: Ceph cannot go from what runs to the spec's image.
func upgradeRefused(o *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	for i := range steps {
		if steps[i].Reason == v1alpha1.ReasonUpgradeRefused {
			return blocker(v1alpha1.ReasonUpgradeRefused, "no daemon gets spec.ceph.image %s: %s", o.Cluster.Spec.Ceph.Image, steps[i].Gate)
		}
	}
	return nil
}

// upgradeHalted: what was upgraded made things worse.
func upgradeHalted(o *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	record := o.Cluster.Status.Upgrade
	for i := range steps {
		if steps[i].Reason == v1alpha1.ReasonUpgradeHalted && record != nil {
			return blocker(v1alpha1.ReasonUpgradeHalted, "the upgrade from %s to %s is halted, because Ceph's health is worse than when it began: %s. '%s' waits until %s. It goes on by itself when that is mended",
				record.From, record.Version, upgrade.Worse(record.HealthBefore, o.Ceph.Status.Checks), steps[i].What, steps[i].Gate)
		}
	}
	return nil
}

// upgradeStatus keeps what an upgrade must know of its beginning, and how far it is.
func upgradeStatus(s *v1alpha1.StorageClusterStatus, o *Observed) {
	if o.Ceph == nil || len(o.ofKind(mon.Component)) == 0 {
		return
	}
	c := o.change()
	if c == nil {
		if s.Upgrade = withProgress(s.Upgrade, o); finished(o) {
			s.Image, s.Upgrade = o.Cluster.Spec.Ceph.Image, nil
		}
		return
	}
	if s.Image == "" {
		s.Image = imageOf(o.ofKind(mon.Component)[0])
	}
	if version, known := o.version(); known && !c.back && c.reason != v1alpha1.ReasonUpgradeRefused && (s.Upgrade == nil || s.Upgrade.Image != c.image) {
		began := &v1alpha1.UpgradeStatus{Image: c.image, Version: version.String(), Began: metav1.NewTime(o.Now.Truncate(time.Second)), HealthBefore: upgrade.Before(o.Ceph.Status.Checks)}
		if s.Upgrade != nil {
			began.From = s.Upgrade.From
		} else if from, known := upgrade.Lowest(o.Ceph.Releases, mon.Component); known {
			began.From = from.String()
		}
		s.Upgrade = began
	}
	s.Upgrade = withProgress(s.Upgrade, o)
}

// withProgress counts the daemons that have the spec's image.
func withProgress(u *v1alpha1.UpgradeStatus, o *Observed) *v1alpha1.UpgradeStatus {
	if u == nil {
		return nil
	}
	done, all := 0, 0
	for _, kind := range kinds {
		for _, d := range o.ofKind(kind) {
			all++
			if imageOf(d) == o.Cluster.Spec.Ceph.Image && !rolling(d) {
				done++
			}
		}
	}
	u.Progress = strconv.Itoa(done) + "/" + strconv.Itoa(all)
	return u
}

// finished reports whether nothing is left of an upgrade, all daemons having the image.
func finished(o *Observed) bool {
	record := o.Cluster.Status.Upgrade
	if record == nil || record.Image != o.Cluster.Spec.Ceph.Image {
		return true
	}
	version, err := upgrade.Parse(record.Version)
	return err == nil && o.Ceph.Releases != nil && o.unreported(record.Version) == "" && ceph.ReleaseNumber(o.Ceph.Releases.OSDs) >= version.Release
}

// upgrading reports whether an upgrade goes on by itself, as Ceph sees daemons come back.
func upgrading(cluster *v1alpha1.StorageCluster) bool {
	b := cluster.Status.Blocker
	return cluster.Status.Upgrade != nil && (b == nil || b.Reason == v1alpha1.ReasonNotSafeToRestart)
}
