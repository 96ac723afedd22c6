package cluster

import (
	"context"
	"fmt"
	"slices"
	"time"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// mgrPatience is how long a mgr may take that is active and does not answer.
const mgrPatience = 5 * time.Second

// askReported asks of the OSDs that have just started whether their PGs have told how they are
// since: an OSD that is back soon leaves PGs counted as they were before it went. No answer is
// a reason to wait.
func (o *Observed) askReported(ctx context.Context, conn ceph.Conn) error {
	if unclean(o.Ceph) != "" || o.Ceph.Status.ActiveMgr == "" {
		return nil
	}
	limited, cancel := context.WithTimeout(ctx, mgrPatience)
	defer cancel()
	for _, known := range o.Ceph.OSDs {
		if deployment := o.osdDeployment(known.UUID); !known.Up || deployment == nil || !o.justStarted(deployment) {
			continue
		}
		why, err := conn.Unreported(limited, known.ID)
		if err != nil && !ceph.Is(err, ceph.NotFound) {
			why = fmt.Sprintf("Ceph does not say how those of osd.%d are: %v", known.ID, err)
		}
		if o.Ceph.Unreported = why; why != "" {
			break
		}
	}
	return ctx.Err()
}

// justStarted reports whether a Deployment's pod has become available within the time that a
// daemon takes to settle, which is far more than PGs take to tell.
func (o *Observed) justStarted(d *appsv1.Deployment) bool {
	return slices.ContainsFunc(d.Status.Conditions, func(c appsv1.DeploymentCondition) bool {
		return c.Type == appsv1.DeploymentAvailable && c.Status == corev1.ConditionTrue && o.Now.Sub(c.LastTransitionTime.Time) < settle
	})
}
