package process

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// user of the cluster that may work in the pool.
func (n *node) user(name string) ceph.Credentials {
	key, err := n.conn.EnsureUser(n.ctx, "client."+name, ceph.Caps{"mon": "profile rbd", "osd": "profile rbd pool=" + pool})
	require.NoError(n, err)
	credentials := cluster.Credentials()
	credentials.User, credentials.Key = name, key
	return credentials
}

// A node gets another user under I/O: when it says that it uses the old one no more, that
// one is removed, and a data path that is killed then comes back all the same.
func TestAnotherUserUnderIO(t *testing.T) {
	n := newNode(t)
	n.attach.end(unix.SIGTERM)
	n.startSupervised()
	old, fresh := n.user("node-old"), n.user("node-new")
	v, idle := n.volume(64<<20), n.volume(64<<20)
	v.Credentials, idle.Credentials = old, old
	device, err := n.client.Attach(n.ctx, v)
	require.NoError(t, err)
	_, err = n.client.Attach(n.ctx, idle)
	require.NoError(t, err)
	w := n.write(device.Path)
	w.progress()

	wrong := fresh
	wrong.Key = old.Key
	_, err = n.client.Renew(n.ctx, wrong)
	require.Error(t, err, "credentials that the cluster does not take change nothing")
	w.progress()

	used, err := n.client.Renew(n.ctx, fresh)
	require.NoError(t, err)
	require.Equal(t, map[string]string{"node-old": "the data path has a connection open"}, used)
	require.Eventually(t, func() bool {
		used, err = n.client.Renew(n.ctx, fresh)
		return err == nil && len(used) == 0
	}, 30*time.Second, 50*time.Millisecond)
	w.progress()
	require.NoError(t, n.conn.RemoveUser(n.ctx, "client."+old.User))
	_, err = rados.Connector{}.Connect(n.ctx, old, ceph.ConnectOptions{MonTimeout: 20 * time.Second})
	require.True(t, ceph.Is(err, ceph.Forbidden), "the old key is refused: %v", err)

	for range 3 {
		n.killSupervised()
		w.progress()
	}
	fmt.Printf("another user, the old one removed, 3 × killed: %s\n", w.stop())
	require.NoError(t, n.client.Detach(n.ctx, idle.ID))
	n.attach.end(unix.SIGTERM)
	n.startAttach()
	n.detach(v)
}
