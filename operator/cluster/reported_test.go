package cluster

import (
	"context"
	"errors"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/osd"
)

// reporter is a Ceph that is asked how the PGs of OSDs are.
type reporter struct {
	ceph.Conn
	says  map[int]string
	err   error
	asked []int
}

func (r *reporter) Unreported(_ context.Context, id int) (string, error) {
	r.asked = append(r.asked, id)
	return r.says[id], r.err
}

// started has OSDs be available since some time ago.
func (s *scene) started(ago time.Duration, ids ...int) {
	for _, id := range ids {
		d := s.Deployments[osd.DeploymentName(s.Cluster, id)]
		d.Status.Conditions = []appsv1.DeploymentCondition{{Type: appsv1.DeploymentAvailable, Status: corev1.ConditionTrue, LastTransitionTime: metav1.NewTime(s.Now.Add(-ago))}}
	}
}

func TestPGsOfOSDsThatHaveJustStartedMustHaveToldHowTheyAre(t *testing.T) {
	began := func(t *testing.T) *scene {
		s := running(t)
		s.started(time.Hour, 0, 1, 4, 5)
		s.started(settle/2, 2, 3)
		return s
	}
	t.Run("those alone are asked of", func(t *testing.T) {
		s, conn := began(t), &reporter{}
		require.NoError(t, s.askReported(t.Context(), conn))
		require.Equal(t, []int{2, 3}, conn.asked)
		require.Empty(t, unclean(s.Ceph))
	})
	t.Run("one that has not is named", func(t *testing.T) {
		s := began(t)
		require.NoError(t, s.askReported(t.Context(), &reporter{says: map[int]string{3: "PG 1.7 of osd.3 has not"}}))
		require.Equal(t, "all PGs have told that they are active+clean (PG 1.7 of osd.3 has not)", unclean(s.Ceph))
	})
	t.Run("no answer is none", func(t *testing.T) {
		s := began(t)
		require.NoError(t, s.askReported(t.Context(), &reporter{err: errors.New("timed out")}))
		require.Contains(t, unclean(s.Ceph), "timed out")
	})
	t.Run("an OSD that is gone has none", func(t *testing.T) {
		s := began(t)
		require.NoError(t, s.askReported(t.Context(), &reporter{err: ceph.Errorf(ceph.NotFound, "osd info", "no such OSD")}))
		require.Empty(t, unclean(s.Ceph))
	})
	t.Run("nothing is asked while PGs are known not to be clean, or no mgr could answer", func(t *testing.T) {
		s, conn := began(t), &reporter{}
		s.Ceph.Status.PGs = map[string]int{"active+undersized": 1}
		require.NoError(t, s.askReported(t.Context(), conn))
		s = began(t)
		s.Ceph.Status.ActiveMgr = ""
		require.NoError(t, s.askReported(t.Context(), conn))
		require.Empty(t, conn.asked)
	})
}
