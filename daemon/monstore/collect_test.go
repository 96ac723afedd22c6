package monstore

import (
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
)

// withOSD is a cluster of one mon and one OSD on a file, both of which were stopped.
func withOSD(t *testing.T) (b *burnt, osd string) {
	dir := t.TempDir()
	b = &burnt{t: t, fsid: uuid.NewString(), dir: filepath.Join(dir, "stores"), conf: filepath.Join(dir, "ceph.conf"), keyring: filepath.Join(dir, "keyring"), addresses: map[string]string{"a": "[v2:" + freeAddress(t) + "]"}}
	osd = filepath.Join(dir, "osd")
	require.NoError(t, os.Mkdir(b.dir, 0o700))
	require.NoError(t, os.Mkdir(osd, 0o700))
	conf := fmt.Sprintf("[global]\nfsid = %s\nmon_host = %s\nkeyring = %s\nlog_file =\nadmin_socket =\nrun_dir = %s\npid_file =\nbluestore_block_size = 1073741824\nbluestore_fsck_on_mkfs = false\nosd_mclock_skip_benchmark = true\nosd_crush_chooseleaf_type = 0\n", b.fsid, b.addresses["a"], b.keyring, dir)
	require.NoError(t, os.WriteFile(b.conf, []byte(conf), 0o600))
	b.tool("ceph-authtool", "--create-keyring", b.keyring, "--gen-key", "-n", "mon.", "--cap", "mon", "allow *")
	b.tool("ceph-authtool", b.keyring, "--gen-key", "-n", "client.admin", "--cap", "mon", "allow *", "--cap", "osd", "allow *")
	b.tool("ceph-authtool", b.keyring, "--gen-key", "-n", "osd.0", "--cap", "mon", "allow profile osd", "--cap", "osd", "allow *")
	b.mkfs("a", "--addv", "a", b.addresses["a"])
	stop := b.start("a")
	id := uuid.NewString()
	b.ask("osd", "new", id, "0")
	b.tool("ceph-osd", "-c", b.conf, "-i", "0", "--osd-data", osd, "--osd-uuid", id, "--mkfs")
	daemon := exec.Command("ceph-osd", "-f", "-c", b.conf, "-i", "0", "--osd-data", osd)
	daemon.Dir = "/"
	require.NoError(t, daemon.Start())
	t.Cleanup(func() { _ = daemon.Process.Kill() })
	b.ask("osd", "pool", "create", "before-the-fire", "1")
	require.Eventually(t, func() bool { return strings.Contains(b.ask("osd", "stat"), "1 up") }, time.Minute, 200*time.Millisecond)
	stop()
	_ = daemon.Process.Kill()
	_ = daemon.Wait()
	return b, osd
}

func TestAMonsStoreIsMadeFromAnOSD(t *testing.T) {
	b, osd := withOSD(t)
	ctx := t.Context()
	c := Collection{Dir: b.dir, Name: "collected-1", FSID: b.fsid, Mons: []string{"a", "b"}}

	_, err := c.Collect(ctx, []string{osd})
	require.ErrorContains(t, err, "mon a has its store on this node, at "+b.store("a")+": rebuild the quorum from it")
	require.NoError(t, os.RemoveAll(b.store("a")))

	// One that began anew meanwhile, and was in no quorum.
	b.mkfs("b", "--addv", "b", "[v2:127.0.0.1:3300]")
	maps, err := c.Collect(ctx, []string{osd})
	require.NoError(t, err)
	require.NoDirExists(t, b.store("b"))
	require.Positive(t, maps.Last)
	again, err := c.Collect(ctx, []string{osd})
	require.NoError(t, err)
	require.Equal(t, maps, again, "it can be read again")

	unstarted := t.TempDir()
	b.tool("ceph-osd", "-c", b.conf, "--no-mon-config", "-i", "1", "--osd-data", unstarted, "--osd-uuid", uuid.NewString(), "--mkfs")
	again, err = c.Collect(ctx, []string{unstarted, osd, unstarted})
	require.NoError(t, err)
	require.Equal(t, maps, again, "an OSD that never started knows nothing, and is in nobody's way")
	again, err = c.Collect(ctx, []string{unstarted})
	require.NoError(t, err)
	require.Zero(t, again)
	_, err = c.Collect(ctx, []string{osd})
	require.NoError(t, err)

	other := c
	other.Name, other.FSID = "collected-2", "99999999-8888-4777-8666-555555555555"
	_, err = other.Collect(ctx, []string{osd})
	require.ErrorContains(t, err, "is of the cluster with fsid "+b.fsid)

	before := time.Now()
	mon := Founder{Name: "a", Endpoint: b.addresses["a"], Epoch: maps.Last, Keyring: b.keyring, MonKeyring: b.keyring}
	none := mon
	none.Keyring = "/nowhere"
	require.ErrorContains(t, c.Found(ctx, none), "read the users' keys", "the tool itself says nothing of it")
	newer := mon
	newer.Epoch++
	require.ErrorContains(t, c.Found(ctx, newer), "the newest that an OSD has")
	require.NoDirExists(t, b.store("a"), "what is not whole does not bear the mon's name")
	require.NoError(t, os.Mkdir(b.store("a"), 0o700)) // as the kubelet does
	require.NoError(t, c.Found(ctx, mon))
	require.NoError(t, c.Found(ctx, mon), "once more changes nothing")

	b.start("a")
	require.Contains(t, b.ask("osd", "pool", "ls"), "before-the-fire")
	require.Equal(t, strings.TrimSpace(b.tool("ceph-authtool", b.keyring, "-n", "osd.0", "--print-key")), strings.TrimSpace(b.ask("auth", "print-key", "osd.0")))
	require.Equal(t, b.fsid, strings.TrimSpace(b.ask("fsid")))
	require.Greater(t, b.clientID(), before.UnixNano(), "no client has the ID of one that was there before")
}

func TestNewerMapsAreThoseOfTheLaterEpochThenThoseThatReachBackFurther(t *testing.T) {
	require.True(t, Maps{10, 20}.newer(Maps{1, 19}))
	require.True(t, Maps{5, 20}.newer(Maps{10, 20}))
	require.False(t, Maps{10, 20}.newer(Maps{5, 20}))
	require.False(t, Maps{}.newer(Maps{}))
}
