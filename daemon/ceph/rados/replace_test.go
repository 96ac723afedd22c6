package rados_test

import (
	"os/exec"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// An OSD that is down may be destroyed as soon as the others serve everything, though
// they are too few for Ceph's own rule; never while they do not.
func TestALostOSDIsDestroyedOnlyWhileTheOthersServeEverything(t *testing.T) {
	cluster := start(t)
	conn, err := rados.Connector{}.Connect(t.Context(), cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "test", Size: 3, FailureDomain: "osd", Application: "rbd"}))
	told := func(command string) {
		out, err := exec.Command("ceph", append([]string{"--conf", cluster.ConfFile()}, strings.Fields(command)...)...).CombinedOutput()
		require.NoError(t, err, "%s: %s", command, out)
	}
	missed := func(id int, want bool) {
		t.Helper()
		why := ""
		require.Eventually(t, func() bool {
			why, err = conn.StillMissed(t.Context(), id)
			require.NoError(t, err)
			return (why != "") == want
		}, time.Minute, 100*time.Millisecond, "osd.%d is missed: %s", id, &why)
		t.Logf("osd.%d is missed: %q", id, why)
	}
	of := func(id int) ceph.OSD {
		osds, err := conn.OSDs(t.Context())
		require.NoError(t, err)
		return osds[id]
	}
	missed(2, true)
	told("osd set-group noup osd.2")
	told("osd down 2")
	missed(2, false)
	before := of(2)
	requireKind(t, ceph.Busy, conn.DestroyOSD(t.Context(), 2, before.UUID, false))

	told("osd set-group noup osd.1")
	told("osd down 1")
	missed(2, true)
	requireKind(t, ceph.Busy, conn.DestroyOSD(t.Context(), 2, before.UUID, true))
	require.False(t, of(2).Destroyed)

	told("osd unset-group noup osd.1")
	missed(2, false)
	require.Eventually(t, func() bool {
		err = conn.DestroyOSD(t.Context(), 2, before.UUID, true)
		return !ceph.Is(err, ceph.Busy) // PGs that split are unknown for a moment
	}, time.Minute, 100*time.Millisecond)
	require.NoError(t, err)
	require.True(t, of(2).Destroyed)
	key, err := ceph.NewKey(time.Now())
	require.NoError(t, err)
	renewed := before
	renewed.UUID, renewed.New = uuid.NewString(), true
	require.NoError(t, conn.RenewOSD(t.Context(), 2, renewed.UUID, key))
	now := of(2)
	now.BytesUsed = renewed.BytesUsed // is heard of at some other moment
	require.Equal(t, renewed, now, "its place, weight and class are as before")
}

func requireKind(t *testing.T, want ceph.Kind, err error) {
	t.Helper()
	require.Equal(t, want, ceph.KindOf(err), "%v", err)
}
