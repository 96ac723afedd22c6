package monstore

import (
	"encoding/json"
	"fmt"
	"net"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// burnt are three mons that had a quorum and were stopped, and their stores in one folder.
type burnt struct {
	t               *testing.T
	fsid, dir, conf string
	keyring         string
	addresses       map[string]string
}

func newBurnt(t *testing.T) *burnt {
	dir := t.TempDir()
	b := &burnt{t: t, fsid: uuid.NewString(), dir: filepath.Join(dir, "stores"), conf: filepath.Join(dir, "ceph.conf"), keyring: filepath.Join(dir, "keyring"), addresses: map[string]string{}}
	require.NoError(t, os.Mkdir(b.dir, 0o700))
	var first, hosts []string
	for _, name := range []string{"a", "b", "c"} {
		b.addresses[name] = "[v2:" + freeAddress(t) + "]"
		first, hosts = append(first, "--addv", name, b.addresses[name]), append(hosts, b.addresses[name])
	}
	conf := fmt.Sprintf("[global]\nfsid = %s\nmon_host = %s\nkeyring = %s\nlog_file =\nadmin_socket =\nrun_dir = %s\npid_file =\n", b.fsid, strings.Join(hosts, ","), b.keyring, dir)
	require.NoError(t, os.WriteFile(b.conf, []byte(conf), 0o600))
	b.tool("ceph-authtool", "--create-keyring", b.keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
	b.tool("ceph-authtool", b.keyring, "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *")
	var stops []func()
	for _, name := range []string{"a", "b", "c"} {
		b.mkfs(name, first...)
		stops = append(stops, b.start(name))
	}
	b.ask("config-key", "set", "told", "before the fire")
	for _, stop := range stops {
		stop()
	}
	return b
}

func freeAddress(t *testing.T) string {
	listener, err := net.Listen("tcp", "127.0.0.1:0")
	require.NoError(t, err)
	defer func() { _ = listener.Close() }()
	return listener.Addr().String()
}

func (b *burnt) tool(program string, args ...string) string {
	b.t.Helper()
	out, err := run(b.t.Context(), program, args...)
	require.NoError(b.t, err)
	return out
}

// mkfs makes a mon's store.
func (b *burnt) mkfs(name string, first ...string) {
	path := filepath.Join(b.dir, "first")
	b.tool("monmaptool", append([]string{"--create", "--clobber", "--fsid", b.fsid, path}, first...)...)
	b.tool("ceph-mon", "-c", b.conf, "--mkfs", "-i", name, "--mon-data", b.store(name), "--monmap", path, "--keyring", b.keyring)
}

// copied has the stores as they are now for a test of their own.
func (b *burnt) copied(t *testing.T) *burnt {
	other := *b
	other.t, other.dir = t, t.TempDir()
	require.NoError(t, os.CopyFS(other.dir, os.DirFS(b.dir)))
	return &other
}

func (b *burnt) store(name string) string { return filepath.Join(b.dir, "mon-"+name) }

func (b *burnt) recovery(mon string) Recovery {
	return Recovery{Dir: b.dir, Mon: mon, FSID: b.fsid, Backup: "backup-mon-" + mon}
}

// start a mon on its store; it ends with the test, or when asked to.
func (b *burnt) start(name string) (stop func()) {
	mon := exec.Command("ceph-mon", "-f", "-c", b.conf, "-i", name, "--mon-data", b.store(name), "--public-addrv", b.addresses[name])
	require.NoError(b.t, mon.Start())
	stop = func() {
		_ = mon.Process.Kill()
		_ = mon.Wait()
	}
	b.t.Cleanup(stop)
	return stop
}

// ask Ceph, which has as long as any mon needs to start.
func (b *burnt) ask(command ...string) string {
	b.t.Helper()
	out, err := exec.CommandContext(b.t.Context(), "ceph", append([]string{"-c", b.conf, "--connect-timeout", "120"}, command...)...).Output()
	require.NoError(b.t, err)
	return string(out)
}

// clientID is the ID that a client gets.
func (b *burnt) clientID() int64 {
	b.t.Helper()
	ask := "import rados, sys\nwith rados.Rados(conffile=sys.argv[1]) as client: print(client.get_instance_id())"
	id, err := strconv.ParseInt(strings.TrimSpace(b.tool("python3", "-c", ask, b.conf)), 10, 64)
	require.NoError(b.t, err)
	return id
}

func TestALostQuorumIsRebuilt(t *testing.T) {
	b := newBurnt(t)
	t.Run("of the one mon that is left", func(t *testing.T) { isRebuilt(t, b.copied(t)) })
	t.Run("of no store that is not fit for it", func(t *testing.T) { isRefused(t, b.copied(t)) })
}

func isRebuilt(t *testing.T, b *burnt) {
	require.NoError(t, os.RemoveAll(b.store("a")))
	require.NoError(t, os.RemoveAll(b.store("c")))
	r := b.recovery("b")

	stop := b.start("b")
	root, err := os.OpenRoot(b.dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	require.Eventually(t, func() bool { return unused(root, ".") != nil }, time.Minute, 50*time.Millisecond)
	require.ErrorContains(t, r.Keep(t.Context()), "does its mon still run?")
	require.ErrorContains(t, r.Rebuild(t.Context()), "does its mon still run?")
	require.NoDirExists(t, filepath.Join(b.dir, r.Backup))
	stop()

	require.NoError(t, r.Keep(t.Context()))
	kept, err := Recovery{Dir: b.dir, Mon: "b", FSID: r.FSID}.look(t.Context())
	require.NoError(t, err)
	require.Equal(t, []string{"a", "b", "c"}, kept.Mons, "keeping it changes nothing")
	before := time.Now()
	require.NoError(t, r.Rebuild(t.Context()))
	rebuilt, err := r.look(t.Context())
	require.NoError(t, err)
	require.Equal(t, Map{Epoch: kept.Epoch + 1, FSID: b.fsid, Mons: []string{"b"}}, rebuilt, "clients take it for newer")
	require.NoError(t, r.Rebuild(t.Context()))
	again, err := r.look(t.Context())
	require.NoError(t, err)
	require.Equal(t, rebuilt, again, "once more changes nothing of the monmap")

	b.start("b")
	var quorum struct {
		Names []string `json:"quorum_names"`
	}
	require.NoError(t, json.Unmarshal([]byte(b.ask("quorum_status", "-f", "json")), &quorum))
	require.Equal(t, []string{"b"}, quorum.Names)
	require.Equal(t, "before the fire", strings.TrimSpace(b.ask("config-key", "get", "told")))
	require.Greater(t, b.clientID(), before.UnixNano(), "this mon need not know all IDs that the others gave")

	t.Run("another mon joins", func(t *testing.T) {
		raw := b.addresses["b"]
		b.addresses["d"] = "[v2:" + freeAddress(t) + "]"
		b.mkfs("d", "--addv", "b", raw, "--addv", "d", b.addresses["d"])
		b.start("d")
		require.Eventually(t, func() bool {
			require.NoError(t, json.Unmarshal([]byte(b.ask("quorum_status", "-f", "json")), &quorum))
			return slices.Equal(quorum.Names, []string{"b", "d"})
		}, time.Minute, 200*time.Millisecond)
		require.Greater(t, b.clientID(), before.UnixNano())
	})
	t.Run("the store is kept as it was", func(t *testing.T) {
		require.NoError(t, os.Rename(filepath.Join(b.dir, "backup-mon-b"), filepath.Join(b.dir, "mon-z")))
		b.tool("ceph-mon", "-i", "b", "--mon-data", filepath.Join(b.dir, "mon-z"), "--extract-monmap", filepath.Join(b.dir, "map"))
		old, err := parseMap(b.tool("monmaptool", "--print", filepath.Join(b.dir, "map")))
		require.NoError(t, err)
		require.Equal(t, kept, old)
	})
}

func isRefused(t *testing.T, b *burnt) {
	t.Run("another cluster's", func(t *testing.T) {
		r := b.recovery("a")
		r.FSID = "99999999-8888-4777-8666-555555555555"
		require.ErrorContains(t, r.Keep(t.Context()), "is of the cluster with fsid "+b.fsid)
	})
	t.Run("another mon's", func(t *testing.T) {
		require.NoError(t, os.Rename(b.store("c"), b.store("d")))
		require.ErrorContains(t, b.recovery("d").Keep(t.Context()), "mon d is none of its own monmap: it has mons [a b c]")
	})
	t.Run("none", func(t *testing.T) {
		require.ErrorContains(t, b.recovery("x").Keep(t.Context()), "mon x has no store on this node")
	})
	t.Run("one that cannot be read", func(t *testing.T) {
		require.NoError(t, os.WriteFile(filepath.Join(b.store("b"), "store.db", "CURRENT"), []byte("MANIFEST-999999\n"), 0o600))
		require.Error(t, b.recovery("b").Rebuild(t.Context()))
		require.DirExists(t, filepath.Join(b.dir, "backup-mon-b"))
	})
	t.Run("one that was never in a quorum", func(t *testing.T) {
		b.mkfs("e", "--addv", "e", "[v2:127.0.0.1:3300]")
		require.ErrorContains(t, b.recovery("e").Keep(t.Context()), "mon e was never in a quorum")
	})
	t.Run("one that is being filled", func(t *testing.T) {
		path := filepath.Join(b.dir, "flag")
		require.NoError(t, os.WriteFile(path, []byte{1, 0, 0, 0}, 0o600))
		_, err := run(t.Context(), "ceph-kvstore-tool", "rocksdb", filepath.Join(b.store("a"), "store.db"), "set", "mon_sync", "in_sync", "in", path)
		require.NoError(t, err)
		require.ErrorContains(t, b.recovery("a").Rebuild(t.Context()), "mon a had not yet got all that the others knew")
	})
	t.Run("no name", func(t *testing.T) {
		r := b.recovery("a")
		r.Backup = "../x"
		require.ErrorContains(t, r.Keep(t.Context()), `"../x" is not a name`)
	})
}

func TestAnInterruptedBackupIsMadeAnew(t *testing.T) {
	dir := t.TempDir()
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "mon-a", "store.db"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "mon-a", "store.db", "1.sst"), []byte("all of it"), 0o600))
	require.NoError(t, os.MkdirAll(filepath.Join(dir, "backup.partial", "store.db"), 0o700))
	require.NoError(t, os.WriteFile(filepath.Join(dir, "backup.partial", "store.db", "1.sst"), []byte("half"), 0o600))
	root, err := os.OpenRoot(dir)
	require.NoError(t, err)
	t.Cleanup(func() { _ = root.Close() })
	r := Recovery{Dir: dir, Mon: "a", Backup: "backup"}
	require.NoError(t, r.backUp(root))
	content, err := os.ReadFile(filepath.Join(dir, "backup", "store.db", "1.sst"))
	require.NoError(t, err)
	require.Equal(t, "all of it", string(content))
	require.NoDirExists(t, filepath.Join(dir, "backup.partial"))

	require.NoError(t, os.WriteFile(filepath.Join(dir, "mon-a", "store.db", "1.sst"), []byte("changed"), 0o600))
	require.NoError(t, r.backUp(root))
	content, err = os.ReadFile(filepath.Join(dir, "backup", "store.db", "1.sst"))
	require.NoError(t, err)
	require.Equal(t, "all of it", string(content), "a whole backup is never written over")
}
