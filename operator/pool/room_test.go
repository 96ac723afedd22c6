package pool

import (
	"testing"

	"github.com/stretchr/testify/require"

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
