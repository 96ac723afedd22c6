package monstore

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/operator/mon"
)

// What the operator rests on when it changes the mons: one that began anew is ahead of the
// others, and mons that all did give nothing twice, whatever the monmap.
func TestMonsThatBeganOneAfterTheOtherGiveNoClientIDTwice(t *testing.T) {
	b := newBurnt(t)
	dir := filepath.Dir(b.conf)
	conf, err := os.ReadFile(b.conf)
	require.NoError(t, err)
	text := strings.Replace(string(conf), "admin_socket =", "admin_socket = "+dir+"/$name.asok", 1)
	text += fmt.Sprintf("mon_globalid_prealloc = %d\n", mon.ClientIDRange)
	require.NoError(t, os.WriteFile(b.conf, []byte(text), 0o600))
	names := []string{"a", "b", "c"}
	stops := map[string]func(){}
	var hosts []string
	for _, name := range names {
		stops[name], hosts = b.start(name), append(hosts, b.addresses[name])
	}
	b.ask("fsid")
	conn, err := rados.Connector{}.Connect(t.Context(), ceph.Credentials{FSID: b.fsid, MonHost: strings.Join(hosts, ","), User: "admin",
		Key: ceph.Key(strings.TrimSpace(b.tool("ceph-authtool", b.keyring, "-n", "client.admin", "--print-key")))}, ceph.ConnectOptions{MonTimeout: time.Minute})
	require.NoError(t, err)
	defer func() { _ = conn.Close() }()

	given := map[uint64]string{}
	// ask these mons, once all can tell, and none what one told before.
	ask := func(mons ...string) (ids map[string]uint64) {
		require.Eventually(t, func() bool {
			ids, err = conn.ClientIDs(t.Context())
			return err == nil && len(ids) == len(mons)
		}, time.Minute, 200*time.Millisecond, "%v of %v: %v", ids, mons, err)
		for name, id := range ids {
			require.Empty(t, given[id], "mon %s gave %d, which mon %s had given", name, id, given[id])
			given[id] = name
		}
		return ids
	}
	ask(names...)
	for _, name := range names {
		stops[name]()
		stops[name] = b.start(name)
		ids := ask(names...)
		for other, id := range ids {
			require.True(t, other == name || ids[name] >= id+mon.ClientIDRange/2, "mon %s is ahead of mon %s: %v", name, other, ids)
		}
	}
	for range 30 {
		ask(names...)
	}
	b.ask("mon", "rm", "a")
	stops["a"]()
	for range 30 {
		ask("b", "c")
	}
	b.ask("mon", "rm", "b")
	stops["b"]()
	for range 30 {
		ask("c")
	}
}
