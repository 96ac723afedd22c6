package rados

import (
	"bytes"
	"context"
	"fmt"
	"os/exec"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// A client that says where it is reads from the OSD beside it.
func TestReadsComeFromTheNearestReplica(t *testing.T) {
	cluster, err := localceph.Start(t.Context(), t.TempDir(), localceph.Options{OSDs: 3})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	for i := range 3 {
		out, err := exec.CommandContext(t.Context(), "ceph", "-c", cluster.ConfFile(), "osd", "crush", "set", fmt.Sprintf("osd.%d", i), "1.0",
			"root=default", fmt.Sprintf("host=host-%d", i)).CombinedOutput()
		require.NoError(t, err, string(out))
	}
	connect := func(near string) ceph.Conn {
		c, err := Connector{}.Connect(t.Context(), cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second, Near: near})
		require.NoError(t, err)
		t.Cleanup(func() { require.NoError(t, c.Close()) })
		return c
	}
	admin := connect("")
	require.NoError(t, admin.EnsurePool(t.Context(), ceph.PoolSpec{Name: "test", Size: 3, FailureDomain: "host", Application: "rbd"}))
	pool, err := admin.PoolID(t.Context(), "test")
	require.NoError(t, err)
	ref := ceph.ImageRef{PoolID: pool, Name: "near"}
	const objects, others, each, piece = 32, 300, 4 << 20, 1 << 20
	pattern := func(n int) []byte { return bytes.Repeat(fmt.Appendf(nil, "%64d", n), piece/64) }
	require.NoError(t, admin.CreateImage(t.Context(), ref, ceph.ImageSpec{Size: (objects + others) * each}))
	image, err := admin.OpenImage(t.Context(), ref, ceph.OpenOptions{Exclusive: true})
	require.NoError(t, err)
	for i := range objects {
		_, err := image.WriteAt(pattern(i), int64(i*each))
		require.NoError(t, err)
	}
	// A replica gives what it knows that all others have, which the next write to the PG
	// tells it: so every PG is written to again, by more objects than it takes.
	for range 2 {
		require.NoError(t, image.Flush())
		for i := objects; i < objects+others; i++ {
			_, err := image.WriteAt([]byte("other"), int64(i*each))
			require.NoError(t, err)
		}
	}
	require.NoError(t, image.Close())

	// given is how much of the data each OSD gives to a client.
	given := func(near string) (share []int64) {
		image, err := connect(near).OpenImage(t.Context(), ref, ceph.OpenOptions{Exclusive: true})
		require.NoError(t, err)
		before, err := cluster.ReadBytes()
		require.NoError(t, err)
		data := make([]byte, piece)
		for i := range objects {
			_, err := image.ReadAt(data, int64(i*each))
			require.NoError(t, err)
			require.True(t, bytes.Equal(pattern(i), data))
		}
		after, err := cluster.ReadBytes()
		require.NoError(t, err)
		for i := range after {
			share = append(share, after[i]-before[i])
		}
		_, err = image.WriteAt(pattern(objects), 0)
		require.NoError(t, err)
		require.NoError(t, image.Flush())
		_, err = image.ReadAt(data, 0)
		require.NoError(t, err)
		require.True(t, bytes.Equal(pattern(objects), data), "its own write")
		_, err = image.WriteAt(pattern(0), 0)
		require.NoError(t, err)
		require.NoError(t, image.Close())
		return share
	}
	nearest := func(share []int64, host int) bool {
		for osd, bytes := range share {
			if osd != host && bytes > share[host]/2 {
				return false
			}
		}
		return true
	}
	// Replicas serve reads once the OSDs know how their clocks differ, which takes some
	// of their heartbeats.
	patience, cancel := context.WithTimeout(t.Context(), 2*time.Minute)
	defer cancel()
	for host := range 3 {
		share := given(fmt.Sprintf("root=default host=host-%d", host))
		for ; !nearest(share, host) && patience.Err() == nil; time.Sleep(time.Second) {
			share = given(fmt.Sprintf("root=default host=host-%d", host))
		}
		t.Logf("host-%d reads from the OSDs: %d bytes", host, share)
		require.True(t, nearest(share, host))
	}
	for osd, share := range given("") {
		require.Greater(t, share, int64(piece), "the primaries are anywhere: osd.%d", osd)
	}
}
