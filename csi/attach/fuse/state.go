package fuse

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/durable"
)

// state is what is written of an attachment, so that the next process can clean
// up after this one.
type state struct {
	BootID string        `json:"bootID"`
	Device attach.Device `json:"device"`
	// File is the name of the image's file, unique for each attachment.
	File string `json:"file"`
}

const stateFile = "state.json"

func (a *Attacher) dir(volumeID string) string { return filepath.Join(a.Dir, attach.Hash(volumeID)) }

func (a *Attacher) save(s state) error {
	return durable.WriteJSON(filepath.Join(a.dir(s.Device.VolumeID), stateFile), s)
}

// Clean removes what an earlier process left: its FUSE mounts below the
// directory, and its loop devices where they are bound to the very files that
// it served. A device that is still mounted goes with its mount.
func (a *Attacher) Clean() error {
	if err := os.MkdirAll(a.Dir, 0o700); err != nil {
		return fmt.Errorf("make the directory of attachments: %w", err)
	}
	errs := []error{a.unmountStale()}
	entries, err := os.ReadDir(a.Dir)
	if err != nil {
		return fmt.Errorf("look for stale attachments: %w", err)
	}
	for _, entry := range entries {
		if entry.IsDir() {
			errs = append(errs, a.cleanOne(filepath.Join(a.Dir, entry.Name())))
		}
	}
	return errors.Join(errs...)
}

func (a *Attacher) cleanOne(dir string) error {
	raw, err := os.ReadFile(filepath.Join(dir, stateFile))
	switch {
	case errors.Is(err, fs.ErrNotExist):
		return removeDir(dir)
	case err != nil:
		return fmt.Errorf("read the stale attachment %s: %w", dir, err)
	}
	var s state
	if err := json.Unmarshal(raw, &s); err == nil && s.BootID == durable.BootID() {
		if err := loop.Abandon(s.Device.Path, s.File); err != nil {
			return err
		}
	}
	return removeDir(dir)
}

// removeDir removes an attachment's directory with what belongs there, and
// nothing else: a mount that is still there stops it.
func removeDir(dir string) error {
	for _, path := range []string{filepath.Join(dir, stateFile), filepath.Join(dir, "mnt"), dir} {
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
