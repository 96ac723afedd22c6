package fuse

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/step"
)

// kept is what the keeper has of a volume, beside its descriptors.
type kept struct {
	BootID string `json:"bootID"`
	// Volume is what is attached, without its secrets.
	Volume attach.Volume `json:"volume"`
	// File is the name of the image's file, unique for each attachment.
	File string `json:"file"`
	// Resends: the kernel can send unanswered requests again.
	Resends bool `json:"resends,omitempty"`
	// Drained: all that was read is answered, nothing is in the log, and the image
	// is closed.
	Drained bool `json:"drained,omitempty"`
}

const volumePrefix = "volume-"

func (k kept) name() string { return volumePrefix + attach.Hash(k.Volume.ID) }

// hand gives a volume to the keeper, or changes what it has of it.
func (a *Attacher) hand(ctx context.Context, t *attached) error {
	if a.Keeper == nil {
		return nil
	}
	step.Enter(ctx, "hand the volume's descriptors to the keeper")
	return a.Keeper.Put(ctx, t.kept.name(), t.kept, t.fds.files()...)
}

// drop takes a volume from the keeper. One that does not answer drops it later.
func (a *Attacher) drop(ctx context.Context, t *attached) error {
	if a.Keeper == nil {
		return nil
	}
	return a.Keeper.Drop(ctx, t.kept.name())
}

// state is what is written of an attachment, so that the next process can clean
// up after this one where it cannot go on.
type state struct {
	BootID string `json:"bootID"`
	File   string `json:"file"`
	// FSID of the cluster, and what this process is known by there.
	FSID  string `json:"fsid"`
	Addrs string `json:"addrs"`
}

const stateFile = "state.json"

func (a *Attacher) dir(volumeID string) string { return filepath.Join(a.Dir, attach.Hash(volumeID)) }

func (a *Attacher) save(volumeID string, s state) error {
	return durable.WriteJSON(filepath.Join(a.dir(volumeID), stateFile), s)
}

// Clean removes what an earlier process left and this one does not go on with:
// its FUSE mounts below the directory, and its loop devices where they are bound
// to the very files that it served. A device that is still mounted goes with its
// mount.
func (a *Attacher) Clean() error {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of attachments: %w", err)
	}
	errs := []error{a.unmountStale()}
	entries, err := os.ReadDir(a.Dir)
	if err != nil {
		return fmt.Errorf("look for stale attachments: %w", err)
	}
	mine := a.dirs()
	for _, entry := range entries {
		if entry.IsDir() && !mine[entry.Name()] {
			errs = append(errs, a.cleanOne(filepath.Join(a.Dir, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

// dirs are the names of the directories of this process's volumes.
func (a *Attacher) dirs() map[string]bool {
	a.mu.Lock()
	defer a.mu.Unlock()
	dirs := map[string]bool{}
	for id := range a.volumes {
		dirs[attach.Hash(id)] = true
	}
	return dirs
}

func (a *Attacher) cleanOne(dir string) error {
	s, err := noted(dir)
	if err != nil {
		return err
	}
	if s != nil {
		if err := abandon(s.File); err != nil {
			return err
		}
		a.conns.leave(s.FSID, s.Addrs)
	}
	return removeDir(dir)
}

// leaveNoted has who is noted to serve an attachment be fenced before this process opens anything.
func (a *Attacher) leaveNoted(dir string) {
	s, err := noted(dir)
	if err != nil {
		klog.ErrorS(err, "It is not known from there who served the volume")
	}
	if s != nil {
		a.conns.leave(s.FSID, s.Addrs)
	}
}

// noted is what is written of an attachment since the node has booted; nil for nothing.
func noted(dir string) (*state, error) {
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the stale attachment %s: %w", dir, err)
	}
	var s state
	if err := json.Unmarshal(raw, &s); err != nil || s.BootID != durable.BootID() {
		return nil, nil
	}
	return &s, nil
}

// abandon unbinds the device of a file that nobody serves.
func abandon(file string) error {
	device, err := loop.Find(file)
	if err != nil || device == nil {
		return err
	}
	return loop.Abandon(device.Path, file)
}

// removeDir removes an attachment's directory with what belongs there, and
// nothing else: a mount that is still there stops it.
func removeDir(dir string) error {
	for _, path := range []string{filepath.Join(dir, stateFile), filepath.Join(dir, stateFile+".tmp"), filepath.Join(dir, "mnt"), dir} {
		if err := os.Remove(path); err != nil && !errors.Is(err, fs.ErrNotExist) {
			return fmt.Errorf("remove a stale attachment: %w", err)
		}
	}
	return nil
}

// unmountStale unmounts the FUSE filesystems below the directory.
func (a *Attacher) unmountStale() error {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return fmt.Errorf("look for stale mounts: %w", err)
	}
	var errs []error
	for line := range strings.Lines(string(raw)) {
		fields := strings.Fields(line)
		if len(fields) > 4 && strings.HasPrefix(fields[4], a.Dir+"/") && strings.Contains(line, " - fuse.cairn ") {
			errs = append(errs, unix.Unmount(fields[4], unix.MNT_DETACH))
		}
	}
	return errors.Join(errs...)
}
