// Package localceph starts a real Ceph on loopback for tests: mons, a mgr and
// OSDs on files, as plain processes that end with the test. It needs Ceph's
// daemons on PATH: run it inside the build root (images/in-root).
package localceph

import (
	"context"
	"errors"
	"fmt"
	"net"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/google/uuid"
	"golang.org/x/sync/errgroup"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Options of a cluster. Zero values are one mon, one mgr and three OSDs of 4 GiB.
type Options struct {
	Mons, Mgrs, OSDs int
	OSDBytes         int64
	// Devices are block devices for the OSDs, in place of files.
	Devices []string
	// Spare is how many OSDs may be added to those that it starts with.
	Spare int
	// Address that the daemons listen on, in place of 127.0.0.1: for clients in
	// other network namespaces, and the kernel's.
	Address netip.Addr
	// LegacyKeys allows CephX keys of type aes beside aes256k, for clients such as
	// kernels before 7.0.
	LegacyKeys bool
	// V1 has the mons speak version 1 of the messenger, and no other.
	V1 bool
	// NoWait returns once all is started: the caller waits until it works.
	NoWait bool
	// Settings are lines of ceph.conf in place of those that tests are tuned with.
	Settings string
}

// Cluster is a running Ceph.
type Cluster struct {
	FSID     string
	MonHost  string
	AdminKey ceph.Key
	dir      string
	options  Options
	ports    []int
	keys     map[string]ceph.Key
	running  []*exec.Cmd
}

// tuned are the settings that make a small cluster start and answer fast. They
// are for tests: a product cluster keeps Ceph's defaults.
const tuned = `
auth_allow_insecure_global_id_reclaim = false
paxos_propose_interval = 0.05
paxos_min_wait = 0.01
mon_clock_drift_allowed = 2
mon_warn_on_pool_no_redundancy = false
mon_max_pg_per_osd = 1000
osd_pool_default_pg_num = 16
osd_crush_chooseleaf_type = 0
bluestore_fsck_on_mkfs = false
bluestore_cache_autotune = false
bluestore_cache_size = 64M
bluestore_rocksdb_options_annex = write_buffer_size=8388608,max_write_buffer_number=4
osd_mclock_skip_benchmark = true
debug_rocksdb = 0/0
mgr_initial_modules =
osd_recovery_sleep_hdd = 0
`

// Start starts a cluster below dir and returns once a mon quorum answers, the
// mgr is active and every OSD is up. Stop ends it.
func Start(ctx context.Context, dir string, options Options) (*Cluster, error) {
	if options.Mons == 0 {
		options.Mons = 1
	}
	if options.Mgrs == 0 {
		options.Mgrs = 1
	}
	if len(options.Devices) > 0 {
		options.OSDs = len(options.Devices)
	}
	if options.OSDs == 0 {
		options.OSDs = 3
	}
	if !options.Address.IsValid() {
		options.Address = netip.AddrFrom4([4]byte{127, 0, 0, 1})
	}
	if options.Settings == "" {
		options.Settings = tuned
	}
	if options.OSDBytes == 0 {
		options.OSDBytes = 4 << 30
	}
	c := &Cluster{FSID: uuid.NewString(), dir: dir, options: options, keys: map[string]ceph.Key{}}
	if err := c.start(ctx); err != nil {
		return nil, errors.Join(fmt.Errorf("start a local Ceph: %w\n%s", err, c.tail()), c.Stop())
	}
	return c, nil
}

func (c *Cluster) start(ctx context.Context) error {
	if err := c.prepare(); err != nil {
		return err
	}
	mons, _ := errgroup.WithContext(ctx)
	for i := range c.options.Mons {
		mons.Go(func() error { return c.makeMon(ctx, i) })
	}
	if err := mons.Wait(); err != nil {
		return err
	}
	for i := range c.options.Mons {
		if err := c.spawn("ceph-mon", "-i", monName(i), "--mon-data", c.path("mon", monName(i)), "--public-addr", c.monAddr(i)); err != nil {
			return err
		}
	}
	for i := range c.options.Mgrs {
		if err := c.spawn("ceph-mgr", "-i", mgrName(i), "--mgr-data", c.path("mgr", mgrName(i)), "--keyring", c.path("keyring")); err != nil {
			return err
		}
	}
	osds, _ := errgroup.WithContext(ctx)
	for i := range c.options.OSDs {
		osds.Go(func() error { return c.startOSD(ctx, i) })
	}
	if err := osds.Wait(); err != nil {
		return err
	}
	if c.options.NoWait {
		return nil
	}
	return c.waitFor(ctx, `"available":true`, "mgr", "dump")
}

// prepare writes the configuration and one keyring with every key.
func (c *Cluster) prepare() error {
	entities := map[string]string{
		"mon.":         `mon = "allow *"`,
		"client.admin": `mon = "allow *" osd = "allow *" mgr = "allow *" mds = "allow *"`,
	}
	for i := range c.options.Mgrs {
		entities["mgr."+mgrName(i)] = `mon = "allow profile mgr" osd = "allow *" mds = "allow *"`
		if err := os.MkdirAll(c.path("mgr", mgrName(i)), 0o755); err != nil {
			return err
		}
	}
	for i := range c.options.OSDs + c.options.Spare {
		entities[fmt.Sprintf("osd.%d", i)] = `mon = "allow profile osd" osd = "allow *" mgr = "allow profile osd"`
	}
	var keyring strings.Builder
	for entity, caps := range entities {
		key, err := ceph.NewKey(time.Now())
		if err != nil {
			return err
		}
		c.keys[entity] = key
		fmt.Fprintf(&keyring, "[%s]\nkey = %s\n", entity, key.Reveal())
		for _, line := range strings.Split(strings.ReplaceAll(caps, `" `, "\"\n"), "\n") {
			fmt.Fprintf(&keyring, "caps %s\n", line)
		}
	}
	c.AdminKey = c.keys["client.admin"]
	ports, err := freePorts(c.options.Address, c.options.Mons)
	if err != nil {
		return err
	}
	c.ports = ports
	var hosts []string
	for i := range ports {
		hosts = append(hosts, c.monAddr(i))
	}
	c.MonHost = strings.Join(hosts, ",")
	for _, sub := range []string{"mon", "log", "run"} {
		if err := os.MkdirAll(c.path(sub), 0o755); err != nil {
			return err
		}
	}
	conf := fmt.Sprintf("[global]\nfsid = %s\nmon_host = %s\nkeyring = %s\nlog_file = %s/$name.log\nadmin_socket = %s/$name.asok\nrun_dir = %s\npid_file =\nms_bind_ipv4 = true\npublic_network = %s\n%s",
		c.FSID, c.MonHost, c.path("keyring"), c.path("log"), c.path("run"), c.path("run"), netip.PrefixFrom(c.options.Address, 8).Masked(), c.options.Settings)
	if err := os.WriteFile(c.path("ceph.conf"), []byte(conf), 0o644); err != nil {
		return err
	}
	return os.WriteFile(c.path("keyring"), []byte(keyring.String()), 0o600)
}

func (c *Cluster) makeMon(ctx context.Context, i int) error {
	monmap := c.path("monmap." + monName(i))
	args := []string{"--create", "--clobber", "--fsid", c.FSID, "--set-min-mon-release", "tentacle", "--enable-all-features"}
	if c.options.LegacyKeys {
		args = append(args, "--auth-allowed-ciphers", "aes,aes256k")
	}
	for j := range c.options.Mons {
		args = append(args, "--addv", monName(j), "["+c.monAddr(j)+"]")
	}
	if err := c.run(ctx, "monmaptool", append(args, monmap)...); err != nil {
		return err
	}
	if err := os.MkdirAll(c.path("mon", monName(i)), 0o755); err != nil {
		return err
	}
	return c.run(ctx, "ceph-mon", "--mkfs", "-i", monName(i), "--mon-data", c.path("mon", monName(i)), "--monmap", monmap, "--keyring", c.path("keyring"))
}

func (c *Cluster) startOSD(ctx context.Context, i int) error {
	data, id, osdUUID := c.path(fmt.Sprintf("osd%d", i)), fmt.Sprint(i), uuid.NewString()
	if err := os.MkdirAll(data, 0o755); err != nil {
		return err
	}
	key := fmt.Sprintf("[osd.%d]\nkey = %s\n", i, c.keys[fmt.Sprintf("osd.%d", i)].Reveal())
	if err := os.WriteFile(filepath.Join(data, "keyring"), []byte(key), 0o600); err != nil {
		return err
	}
	if len(c.options.Devices) > 0 {
		if err := os.Symlink(c.options.Devices[i], filepath.Join(data, "block")); err != nil {
			return err
		}
	}
	common := []string{"-i", id, "--osd-data", data, "--osd-uuid", osdUUID, "--bluestore-block-size", fmt.Sprint(c.options.OSDBytes)}
	if err := c.run(ctx, "ceph-osd", append(common, "--mkfs")...); err != nil {
		return err
	}
	if err := c.run(ctx, "ceph", "osd", "new", osdUUID, id); err != nil {
		return err
	}
	if err := c.spawn("ceph-osd", "-i", id, "--osd-data", data); err != nil {
		return err
	}
	if c.options.NoWait {
		return nil
	}
	return c.waitFor(ctx, fmt.Sprintf(`{"osd":%d,"uuid":"%s","up":1`, i, osdUUID), "osd", "dump")
}

// Add starts more OSDs on devices, at most Options.Spare in all.
func (c *Cluster) Add(ctx context.Context, devices ...string) error {
	osds, _ := errgroup.WithContext(ctx)
	first := c.options.OSDs
	c.options.Devices, c.options.OSDs = append(c.options.Devices, devices...), first+len(devices)
	for i := range devices {
		osds.Go(func() error { return c.startOSD(ctx, first+i) })
	}
	return osds.Wait()
}

// waitFor asks until the answer to a command contains text.
func (c *Cluster) waitFor(ctx context.Context, text string, command ...string) error {
	tick := time.NewTicker(200 * time.Millisecond)
	defer tick.Stop()
	for {
		out, err := c.command(ctx, "ceph", append(command, "-f", "json")...).Output()
		if err == nil && strings.Contains(string(out), text) {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waiting for %s in the answer to %v: %w", text, command, ctx.Err())
		case <-tick.C:
		}
	}
}

// Credentials of client.admin.
func (c *Cluster) Credentials() ceph.Credentials {
	return ceph.Credentials{FSID: c.FSID, MonHost: c.MonHost, User: "admin", Key: c.AdminKey}
}

// ConfFile is the path of the cluster's ceph.conf, for Ceph's own programs.
func (c *Cluster) ConfFile() string { return c.path("ceph.conf") }

// Stop ends every process of the cluster.
func (c *Cluster) Stop() error {
	for _, cmd := range c.running {
		_ = cmd.Process.Kill()
	}
	for _, cmd := range c.running {
		_ = cmd.Wait()
	}
	c.running = nil
	return nil
}

func (c *Cluster) spawn(program string, args ...string) error {
	cmd := exec.Command(program, append([]string{"-f", "-c", c.ConfFile()}, args...)...)
	cmd.Dir = "/" // Debian's osd_class_dir is relative to it
	cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := cmd.Start(); err != nil {
		return fmt.Errorf("start %s: %w", program, err)
	}
	c.running = append(c.running, cmd)
	return nil
}

func (c *Cluster) command(ctx context.Context, program string, args ...string) *exec.Cmd {
	if strings.HasPrefix(program, "ceph") {
		args = append([]string{"-c", c.ConfFile()}, args...)
	}
	return exec.CommandContext(ctx, program, args...)
}

func (c *Cluster) run(ctx context.Context, program string, args ...string) error {
	if out, err := c.command(ctx, program, args...).CombinedOutput(); err != nil {
		return fmt.Errorf("%s: %w: %s", program, err, out)
	}
	return nil
}

// tail is the end of every daemon's log, for the error of a failed start.
func (c *Cluster) tail() string {
	logs, _ := filepath.Glob(c.path("log", "*.log"))
	var out strings.Builder
	for _, log := range logs {
		data, _ := os.ReadFile(log)
		fmt.Fprintf(&out, "--- %s\n%s\n", filepath.Base(log), data[max(0, len(data)-1500):])
	}
	return out.String()
}

func (c *Cluster) path(parts ...string) string {
	return filepath.Join(append([]string{c.dir}, parts...)...)
}

func (c *Cluster) monAddr(i int) string {
	version := "v2"
	if c.options.V1 {
		version = "v1"
	}
	return fmt.Sprintf("%s:%s/0", version, netip.AddrPortFrom(c.options.Address, uint16(c.ports[i])))
}

func monName(i int) string { return string(rune('a' + i)) }

func mgrName(i int) string { return string(rune('x' + i)) }

func freePorts(address netip.Addr, n int) ([]int, error) {
	var ports []int
	for range n {
		listener, err := net.Listen("tcp", netip.AddrPortFrom(address, 0).String())
		if err != nil {
			return nil, fmt.Errorf("find a free port: %w", err)
		}
		defer func() { _ = listener.Close() }()
		ports = append(ports, listener.Addr().(*net.TCPAddr).Port)
	}
	return ports, nil
}
