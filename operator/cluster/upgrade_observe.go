package cluster

import (
	"context"
	"fmt"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// MayStop is what Ceph says of the OSDs that an upgrade restarts next.
type MayStop struct {
	// Asked are those of one node, IDs those of them that may stop now.
	Asked, IDs []int
	// Why says what else must hold.
	Why string
}

// next are the OSDs of the node that an upgrade restarts now: the node that has
// been begun with, else the first.
func (o *Observed) next() (ids []int) {
	begun, behind := map[string]bool{}, map[string][]int{}
	for _, d := range o.ofKind(osd.Component) {
		node := osd.Place(d)
		if imageOf(d) == o.Cluster.Spec.Ceph.Image {
			begun[node] = true
		} else if known := o.osd(d.Annotations[kube.AnnotationUUID]); known != nil && known.Up && !o.marked(known.UUID) {
			behind[node] = append(behind[node], known.ID)
		}
	}
	first := ""
	for node := range behind {
		if first == "" || begun[node] && !begun[first] || begun[node] == begun[first] && node < first {
			first = node
		}
	}
	slices.Sort(behind[first])
	return behind[first]
}

// askReleases asks what an upgrade rests on.
func (o *Observed) askReleases(ctx context.Context, conn ceph.Conn) (err error) {
	finished := slices.ContainsFunc(o.Ceph.Status.Checks, func(check ceph.HealthCheck) bool { return check.Code == "OSD_UPGRADE_FINISHED" })
	if !o.changing() && o.Cluster.Status.Upgrade == nil && !finished {
		return nil
	}
	if o.Ceph.Releases, err = conn.Releases(ctx); err != nil {
		return err
	}
	if o.changing() && unclean(o.Ceph) == "" && o.Ceph.Status.ActiveMgr != "" {
		o.Ceph.MayStop = askMayStop(ctx, conn, o.next())
	}
	return nil
}

// askMayStop asks for all the OSDs of a node together, and for the first alone
// when that would be too many at once. No answer is a reason to wait.
func askMayStop(ctx context.Context, conn ceph.Conn, ids []int) MayStop {
	may := MayStop{Asked: ids}
	for _, some := range [][]int{ids, ids[:min(1, len(ids))]} {
		if len(some) == 0 {
			break
		}
		why, err := conn.NotOKToStop(ctx, some)
		switch {
		case err != nil:
			may.Why = fmt.Sprintf("Ceph says whether osd.%d may stop (%v)", some[0], err)
		case why != "":
			may.Why = fmt.Sprintf("Ceph lets osd.%d stop (%s)", some[0], why)
		default:
			may.IDs = some
			return may
		}
	}
	return may
}
