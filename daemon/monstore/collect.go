package monstore

import (
	"context"
	"errors"
	"fmt"
	"io"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
	"time"
)

// Collection makes a mon's store from what the OSDs know, when no mon has its store
// any more. The history of the OSD map is one line: whoever has the newest map knows
// all that older ones say, so the store is made from one OSD, that with the newest map.
type Collection struct {
	// Dir has the stores of the cluster's mons on this node, each in mon-NAME.
	Dir string
	// Name in Dir of what is collected on this node.
	Name string
	// FSID that it must be of.
	FSID string
	// Mons of the cluster: none of them may have a store here.
	Mons []string
	// Progress is told what is done, if it is not nil.
	Progress io.Writer
}

func (c Collection) say(format string, args ...any) {
	if c.Progress != nil {
		_, _ = fmt.Fprintf(c.Progress, format+"\n", args...)
	}
}

// Maps are the OSD maps that one OSD has.
type Maps struct {
	First uint64 `json:"first"`
	Last  uint64 `json:"last"`
}

// newer reports whether maps are the better ones to begin with.
func (m Maps) newer(other Maps) bool {
	return m.Last > other.Last || m.Last == other.Last && m.Last > 0 && m.First < other.First
}

func (c Collection) path(name string) string { return filepath.Join(c.Dir, name) }

func (c Collection) check() error {
	for _, name := range append([]string{c.Name}, c.Mons...) {
		if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
			return fmt.Errorf("make a mon's store from OSDs: %q is not a name", name)
		}
	}
	return nil
}

// Collect reads the maps of OSDs, whose directories are given and which must not run,
// and keeps those of the one that has the newest. One that has heard of no map is passed
// over. It begins anew each time.
func (c Collection) Collect(ctx context.Context, osds []string) (Maps, error) {
	if err := c.check(); err != nil {
		return Maps{}, err
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return Maps{}, fmt.Errorf("open the mons' stores: %w", err)
	}
	defer func() { _ = root.Close() }()
	if err := c.empty(ctx, root); err != nil {
		return Maps{}, err
	}
	partial := c.Name + ".partial"
	for _, name := range []string{c.Name, partial} {
		if err := root.RemoveAll(name); err != nil {
			return Maps{}, fmt.Errorf("forget an earlier attempt: %w", err)
		}
	}
	var best Maps
	for _, osd := range osds {
		c.say("read the maps of the OSD at %s", osd)
		maps, err := c.read(ctx, root, osd, partial)
		if err != nil {
			return Maps{}, err
		}
		c.say("it has OSD maps %d to %d", maps.First, maps.Last)
		if maps.newer(best) {
			best = maps
			err = errors.Join(root.RemoveAll(c.Name), root.Rename(partial, c.Name))
		} else {
			err = root.RemoveAll(partial)
		}
		if err != nil {
			return Maps{}, fmt.Errorf("keep what is collected: %w", err)
		}
	}
	if best.Last == 0 {
		return best, nil
	}
	return best, errors.Join(syncTree(c.path(c.Name)), syncPath(c.Dir))
}

// empty refuses a node on which a mon has its store: that knows more than the OSDs do.
// One that was never in a quorum knows nothing, and is put aside.
func (c Collection) empty(ctx context.Context, root *os.Root) error {
	// What is needed once there is no way back.
	for _, program := range []string{"ceph-monstore-tool", "ceph-kvstore-tool", "osdmaptool"} {
		if _, err := exec.LookPath(program); err != nil {
			return fmt.Errorf("this image has no %s: %w", program, err)
		}
	}
	if err := unused(root, "."); err != nil {
		return err
	}
	for _, name := range c.Mons {
		store := "mon-" + name
		_, err := root.Stat(filepath.Join(store, "store.db", "CURRENT"))
		if errors.Is(err, fs.ErrNotExist) {
			continue
		}
		if err != nil {
			return fmt.Errorf("look for the store of mon %s: %w", name, err)
		}
		if seen, err := monmapOf(ctx, name, c.path(store)); err != nil || seen.Epoch > 0 || seen.FSID != c.FSID {
			return errors.Join(fmt.Errorf("mon %s has its store on this node, at %s: rebuild the quorum from it; or, when it cannot be used, move it away", name, c.path(store)), err)
		}
		aside := c.Name + "." + store
		if err := errors.Join(root.RemoveAll(aside), root.Rename(store, aside)); err != nil {
			return fmt.Errorf("put the store of mon %s aside, which was never in a quorum: %w", name, err)
		}
	}
	return nil
}

// read the maps of one OSD into a store of their own.
func (c Collection) read(ctx context.Context, root *os.Root, osd, partial string) (Maps, error) {
	if err := root.Mkdir(partial, 0o700); err != nil {
		return Maps{}, fmt.Errorf("make room for the maps: %w", err)
	}
	store := c.path(partial)
	if _, err := run(ctx, "ceph-objectstore-tool", "--data-path", osd, "--no-mon-config", "--op", "update-mon-db", "--mon-store-path", store); err != nil {
		return Maps{}, fmt.Errorf("read the maps of the OSD at %s: %w", osd, err)
	}
	fsid, err := value(ctx, store, "monitor", "cluster_uuid")
	if err != nil {
		return Maps{}, err
	}
	if text := strings.TrimSpace(string(fsid)); text != c.FSID {
		return Maps{}, fmt.Errorf("the OSD at %s is of the cluster with fsid %s, not of %s", osd, text, c.FSID)
	}
	if _, err := number(ctx, store, "osdmap", "last_committed"); errors.Is(err, errNoKey) {
		return Maps{}, nil // made, and never started: it knows nothing
	}
	maps, err := mapsOf(ctx, store)
	if err == nil {
		_, err = newestMap(ctx, store) // needed once there is no way back
	}
	return maps, err
}

// mapsOf are the OSD maps in a store.
func mapsOf(ctx context.Context, store string) (maps Maps, err error) {
	for key, to := range map[string]*uint64{"first_committed": &maps.First, "last_committed": &maps.Last} {
		if *to, err = number(ctx, store, "osdmap", key); err != nil {
			return Maps{}, err
		}
	}
	if maps.First == 0 || maps.Last < maps.First {
		return Maps{}, fmt.Errorf("the OSD maps in %s are from %d to %d", store, maps.First, maps.Last)
	}
	return maps, nil
}

// Founder is the mon that begins with what was collected.
type Founder struct {
	Name string
	// Endpoint is its address, as a monmap has it.
	Endpoint string
	// Epoch of the newest OSD map that its store has to have.
	Epoch uint64
	// Keyring has all users of the cluster, MonKeyring the mons' own.
	Keyring, MonKeyring string
}

// Found makes the store of the mon from what was collected on this node, which stays
// as it is. It begins anew until the store is whole, and then does nothing more.
func (c Collection) Found(ctx context.Context, mon Founder) error {
	c.Mons = []string{mon.Name}
	if err := c.check(); err != nil {
		return err
	}
	root, err := os.OpenRoot(c.Dir)
	if err != nil {
		return fmt.Errorf("open the mons' stores: %w", err)
	}
	defer func() { _ = root.Close() }()
	final, building := "mon-"+mon.Name, c.Name+".building"
	if _, err := root.Stat(filepath.Join(final, "store.db", "CURRENT")); err == nil {
		return c.verify(ctx, mon, c.path(final))
	}
	if err := root.RemoveAll(building); err != nil {
		return fmt.Errorf("forget an earlier attempt: %w", err)
	}
	if err := os.CopyFS(c.path(building), os.DirFS(c.path(c.Name))); err != nil {
		return fmt.Errorf("copy what was collected: %w", err)
	}
	if err := c.build(ctx, mon, c.path(building)); err != nil {
		return err
	}
	// The kubelet makes an empty directory for a mon that is to start.
	if err := root.Remove(final); err != nil && !errors.Is(err, fs.ErrNotExist) {
		return fmt.Errorf("make room for the store of mon %s: %w", mon.Name, err)
	}
	if err := root.Rename(building, final); err != nil {
		return fmt.Errorf("put the store of mon %s in its place: %w", mon.Name, err)
	}
	return syncPath(c.Dir)
}

var (
	userLine  = regexp.MustCompile(`(?m)^\[.+\]$`)
	addedLine = regexp.MustCompile(`(?m)^adding auth for `)
)

// build makes the store of the mon in a directory that has the maps.
func (c Collection) build(ctx context.Context, mon Founder, store string) error {
	conf, err := os.CreateTemp("", "conf-")
	if err != nil {
		return fmt.Errorf("make the configuration: %w", err)
	}
	defer func() { _ = os.Remove(conf.Name()) }()
	_, err = fmt.Fprintf(conf, "[global]\nfsid = %s\nmon_host = %s\n", c.FSID, mon.Endpoint)
	if err = errors.Join(err, conf.Close()); err != nil {
		return fmt.Errorf("make the configuration: %w", err)
	}
	tool := exec.CommandContext(ctx, "ceph-monstore-tool", store, "rebuild", "--", "--keyring", mon.Keyring, "--mon-ids", mon.Name)
	tool.Env = append(os.Environ(), "CEPH_CONF="+conf.Name())
	out, err := tool.CombinedOutput()
	if err != nil {
		return fmt.Errorf("ceph-monstore-tool: %w: %s", err, withoutKeys(string(out)))
	}
	// The tool ends well whatever happened.
	users, err := os.ReadFile(mon.Keyring)
	if err != nil {
		return fmt.Errorf("read the users' keys: %w", err)
	}
	if has, added := len(userLine.FindAll(users, -1)), len(addedLine.FindAll(out, -1)); has == 0 || added != has {
		return fmt.Errorf("ceph-monstore-tool took over %d of %d users: %s", added, has, withoutKeys(string(out)))
	}
	if err := c.verify(ctx, mon, store); err != nil {
		return err
	}
	if err := raiseClientIDs(ctx, store, time.Now()); err != nil {
		return err
	}
	key, err := os.ReadFile(mon.MonKeyring)
	if err == nil {
		err = os.WriteFile(filepath.Join(store, "keyring"), key, 0o600)
	}
	if err != nil {
		return fmt.Errorf("write the key of mon %s: %w", mon.Name, err)
	}
	return syncTree(store)
}

// verify makes sure that a store is whole, and that of the mon.
func (c Collection) verify(ctx context.Context, mon Founder, store string) error {
	seen, err := monmapOf(ctx, mon.Name, store)
	if err != nil {
		return err
	}
	if seen.FSID != c.FSID || !slices.Equal(seen.Mons, []string{mon.Name}) {
		return fmt.Errorf("the store made for mon %s of cluster %s is for mons %v of %s", mon.Name, c.FSID, seen.Mons, seen.FSID)
	}
	maps, err := mapsOf(ctx, store)
	if err != nil {
		return err
	}
	if maps.Last < mon.Epoch {
		return fmt.Errorf("the store made for mon %s knows OSD maps up to %d, and not %d, the newest that an OSD has", mon.Name, maps.Last, mon.Epoch)
	}
	if _, err := value(ctx, store, authPrefix, "last_committed"); err != nil {
		return err
	}
	first, err := number(ctx, store, paxosPrefix, "first_committed")
	if err == nil && first < 2 {
		err = fmt.Errorf("the store made for mon %s would not be taken over whole by mons that join: its history begins at %d", mon.Name, first)
	}
	return err
}

// withoutKeys are the last lines that a program printed, but those with keys.
func withoutKeys(out string) string {
	lines := slices.DeleteFunc(strings.Split(strings.TrimSpace(out), "\n"), func(line string) bool { return strings.Contains(line, "key") })
	return strings.Join(lines[max(0, len(lines)-5):], "; ")
}
