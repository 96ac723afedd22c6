package monstore

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"regexp"
	"slices"
	"strconv"
	"strings"
	"time"

	"golang.org/x/sys/unix"
)

// Recovery makes of one mon's store a quorum of that mon alone. The mon must not run.
// Each of its steps may be done again.
type Recovery struct {
	// Dir has the stores of the cluster's mons on this node, each in mon-NAME.
	Dir string
	// Mon is the mon that is left.
	Mon string
	// FSID that its store must be of.
	FSID string
	// Backup is the name in Dir under which the store is kept as it was.
	Backup string
}

// Map is what a monmap says.
type Map struct {
	Epoch int
	FSID  string
	Mons  []string
}

func (r Recovery) store() string { return filepath.Join(r.Dir, "mon-"+r.Mon) }

// Keep copies the store as it is, and then makes sure that a quorum can be made of
// it: that it can be read, is this cluster's and was in a quorum before.
func (r Recovery) Keep(ctx context.Context) error {
	for _, name := range []string{r.Mon, r.Backup} {
		if name == "" || name == "." || name == ".." || filepath.Base(name) != name {
			return fmt.Errorf("recover a quorum: %q is not a name", name)
		}
	}
	root, err := os.OpenRoot(r.Dir)
	if err != nil {
		return fmt.Errorf("open the mons' stores: %w", err)
	}
	defer func() { _ = root.Close() }()
	if _, err := root.Stat(filepath.Join("mon-"+r.Mon, "store.db", "CURRENT")); err != nil {
		return fmt.Errorf("mon %s has no store on this node: %w", r.Mon, err)
	}
	if err := unused(root, "."); err != nil {
		return err
	}
	if err := r.backUp(root); err != nil {
		return fmt.Errorf("keep the store of mon %s as it is: %w", r.Mon, err)
	}
	if _, err := r.look(ctx); err != nil {
		return err
	}
	_, _, err = nextClientID(ctx, r.store(), time.Now())
	return err
}

// backUp copies the store under another name first, so that a whole copy alone bears
// the backup's.
func (r Recovery) backUp(root *os.Root) error {
	if _, err := root.Stat(r.Backup); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	partial := r.Backup + ".partial"
	if err := root.RemoveAll(partial); err != nil {
		return err
	}
	if err := os.CopyFS(filepath.Join(r.Dir, partial), os.DirFS(r.store())); err != nil {
		return err
	}
	if err := syncTree(filepath.Join(r.Dir, partial)); err != nil {
		return err
	}
	if err := root.Rename(partial, r.Backup); err != nil {
		return err
	}
	return syncPath(r.Dir)
}

func syncTree(dir string) error {
	return filepath.WalkDir(dir, func(path string, _ fs.DirEntry, err error) error {
		if err != nil {
			return err
		}
		return syncPath(path)
	})
}

func syncPath(path string) error {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_NOFOLLOW, 0)
	if err != nil {
		return err
	}
	return errors.Join(file.Sync(), file.Close())
}

// Rebuild takes all other mons out of the store's monmap, and raises the clients' IDs: the
// others may have given some that this one does not know of.
func (r Recovery) Rebuild(ctx context.Context) error {
	if err := r.Keep(ctx); err != nil {
		return err
	}
	seen, err := r.look(ctx)
	if err != nil {
		return err
	}
	if err := raiseClientIDs(ctx, r.store(), time.Now()); err != nil {
		return err
	}
	if err := r.forgetHistory(ctx); err != nil {
		return err
	}
	others := slices.DeleteFunc(slices.Clone(seen.Mons), func(name string) bool { return name == r.Mon })
	if len(others) == 0 {
		return syncTree(r.store()) // done before
	}
	if err := r.inject(ctx, others); err != nil {
		return err
	}
	if seen, err = r.look(ctx); err != nil {
		return err
	}
	if !slices.Equal(seen.Mons, []string{r.Mon}) {
		return fmt.Errorf("the monmap of mon %s has mons %v after it was changed", r.Mon, seen.Mons)
	}
	return syncTree(r.store())
}

// paxosPrefix is that of the history of a store.
const paxosPrefix = "paxos"

// forgetHistory has mons that join take over the store whole. From a history that reaches
// back to the first change they would make one of their own, without what is written
// here past it.
func (r Recovery) forgetHistory(ctx context.Context) error {
	last, err := number(ctx, r.store(), paxosPrefix, "last_committed")
	if err != nil {
		return err
	}
	return setNumber(ctx, r.store(), paxosPrefix, "first_committed", last)
}

func (r Recovery) inject(ctx context.Context, others []string) error {
	return withMap(ctx, r.Mon, r.store(), func(path string) error {
		args := []string{path}
		for _, name := range others {
			args = append(args, "--rm", name)
		}
		if _, err := run(ctx, "monmaptool", args...); err != nil {
			return err
		}
		_, err := run(ctx, "ceph-mon", "-i", r.Mon, "--mon-data", r.store(), "--inject-monmap", path)
		return err
	})
}

// look reads the monmap, and refuses a store of which no quorum can be made.
func (r Recovery) look(ctx context.Context) (seen Map, err error) {
	if err := r.inSync(ctx); err != nil {
		return Map{}, err
	}
	seen, err = monmapOf(ctx, r.Mon, r.store())
	switch {
	case err != nil:
		return Map{}, err
	case seen.FSID != r.FSID:
		return Map{}, fmt.Errorf("the store of mon %s is of the cluster with fsid %s, not of %s", r.Mon, seen.FSID, r.FSID)
	case seen.Epoch == 0:
		return Map{}, fmt.Errorf("mon %s was never in a quorum: its store knows nothing of the cluster", r.Mon)
	case !slices.Contains(seen.Mons, r.Mon):
		return Map{}, fmt.Errorf("mon %s is none of its own monmap: it has mons %v", r.Mon, seen.Mons)
	}
	return seen, nil
}

// inSync refuses a store that was being filled from another mon's.
func (r Recovery) inSync(ctx context.Context) error {
	err := kv(ctx, r.store(), "exists", "mon_sync", "in_sync")
	switch {
	case err == nil:
		return fmt.Errorf("mon %s had not yet got all that the others knew: no quorum can be made of its store", r.Mon)
	case errors.Is(err, errNoKey):
		return nil
	}
	return fmt.Errorf("read the store of mon %s: %w", r.Mon, err)
}

// monmapOf is the monmap in a mon's store.
func monmapOf(ctx context.Context, mon, store string) (seen Map, err error) {
	err = withMap(ctx, mon, store, func(path string) error {
		text, err := run(ctx, "monmaptool", "--print", path)
		if err == nil {
			seen, err = parseMap(text)
		}
		return err
	})
	return seen, err
}

// withMap has a copy of a store's monmap in a file.
func withMap(ctx context.Context, mon, store string, use func(path string) error) error {
	return withFile(func(path string) error {
		if _, err := run(ctx, "ceph-mon", "-i", mon, "--mon-data", store, "--extract-monmap", path); err != nil {
			return err
		}
		return use(path)
	})
}

var (
	epochLine = regexp.MustCompile(`(?m)^epoch (\d+)$`)
	fsidLine  = regexp.MustCompile(`(?m)^fsid (\S+)$`)
	monLine   = regexp.MustCompile(`(?m)^\d+: \S+ mon\.([a-z]+)\b`)
)

// parseMap reads what monmaptool prints.
func parseMap(text string) (Map, error) {
	epoch, fsid := epochLine.FindStringSubmatch(text), fsidLine.FindStringSubmatch(text)
	if epoch == nil || fsid == nil {
		return Map{}, fmt.Errorf("monmaptool printed no monmap: %q", text)
	}
	number, err := strconv.Atoi(epoch[1])
	if err != nil {
		return Map{}, fmt.Errorf("the monmap's epoch: %w", err)
	}
	seen := Map{Epoch: number, FSID: fsid[1]}
	for _, line := range monLine.FindAllStringSubmatch(text, -1) {
		seen.Mons = append(seen.Mons, line[1])
	}
	slices.Sort(seen.Mons)
	return seen, nil
}

// run a program of Ceph's, and return what it printed.
func run(ctx context.Context, program string, args ...string) (string, error) {
	out, err := exec.CommandContext(ctx, program, args...).CombinedOutput()
	if err != nil {
		lines := strings.Split(strings.TrimSpace(string(out)), "\n")
		return "", fmt.Errorf("%s: %w: %s", program, err, strings.Join(lines[max(0, len(lines)-5):], "; "))
	}
	return string(out), nil
}
