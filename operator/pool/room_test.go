package pool

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestAPoolIsNotMovedWhereThereIsNoRoom(t *testing.T) {
	const gib = 1 << 30
	osds := []ceph.OSD{{BytesTotal: 20 * gib, BytesUsed: 16 * gib}, {BytesTotal: 20 * gib, BytesUsed: 16 * gib}} // 34 GiB may be used, 2 are left
	now := ceph.PoolSpec{Size: 2, FailureDomain: "host"}
	more, fast := now, now
	more.Size, fast.DeviceClass = 3, "ssd"
	for name, test := range map[string]struct {
		stored int64
		want   ceph.PoolSpec
		says   string
	}{
		"a third replica that fits":       {1 * gib, more, ""},
		"a third replica that does not":   {3 * gib, more, "spec.replicas: 2 to 3: 3.0 GiB are stored, which takes 3.0 GiB of the OSDs in question, and they have room for 2.0 GiB"},
		"a class that may hold it":        {16 * gib, fast, ""},
		"a class that can never hold it":  {18 * gib, fast, "which takes 36.0 GiB of the OSDs in question, and they have room for 34.0 GiB"},
		"the same again, however full":    {100 * gib, now, ""},
		"a pool in which nothing is kept": {0, more, ""},
	} {
		t.Run(name, func(t *testing.T) {
			err := enoughRoom(&ceph.Pool{Spec: now, BytesStored: test.stored}, test.want, osds)
			if test.says == "" {
				require.NoError(t, err)
				return
			}
			require.ErrorContains(t, err, test.says)
		})
	}
}

func TestAPoolWhoseQuotaIsUsedUpIsFull(t *testing.T) {
	for stored, full := range map[int64]bool{1<<30 - 1: false, 1 << 30: true, 2 << 30: true} {
		c := metav1.Condition{Type: v1alpha1.ConditionReady, Status: metav1.ConditionTrue, Reason: v1alpha1.ReasonAsSpecified}
		fullCondition(&c, &ceph.Pool{Spec: ceph.PoolSpec{QuotaBytes: 1 << 30}, BytesStored: stored})
		require.Equal(t, full, c.Reason == v1alpha1.ReasonFull && c.Status == metav1.ConditionFalse, "%d bytes", stored)
		unlimited := c
		fullCondition(&unlimited, &ceph.Pool{BytesStored: stored})
		require.Equal(t, c, unlimited)
	}
}
