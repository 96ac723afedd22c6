// Package durable writes small files that are whole and there after a crash.
package durable

import (
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strings"
	"sync"
)

// Watch, when set, is asked around each change to the disk: "before write",
// "before rename", "after write", "before remove", "after remove". Its error ends
// the change there. It is for tests that break off between two changes.
var Watch func(moment, path string) error

func watch(moment, path string) error {
	if Watch == nil {
		return nil
	}
	return Watch(moment, path)
}

// WriteJSON puts a value into a file, whole or not at all; when it returns, a
// power cut does not take it back.
func WriteJSON(path string, value any) error {
	raw, err := json.Marshal(value)
	if err != nil {
		return fmt.Errorf("encode %s: %w", path, err)
	}
	if err := writeFile(path, raw); err != nil {
		return fmt.Errorf("write %s: %w", path, err)
	}
	return nil
}

func writeFile(path string, raw []byte) error {
	if err := watch("before write", path); err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return err
	}
	tmp := temporary(path)
	f, err := os.OpenFile(tmp, os.O_WRONLY|os.O_CREATE|os.O_TRUNC, 0o600)
	if err != nil {
		return err
	}
	_, err = f.Write(raw)
	if err := errors.Join(err, f.Sync(), f.Close()); err != nil {
		return err
	}
	if err := watch("before rename", path); err != nil {
		return err
	}
	if err := os.Rename(tmp, path); err != nil {
		return err
	}
	return errors.Join(syncDir(filepath.Dir(path)), watch("after write", path))
}

// temporary is where a file is written before it has its name.
func temporary(path string) string { return path + ".tmp" }

// Remove removes a file, and what a write of it that was cut off left; none is fine.
func Remove(path string) error {
	if err := watch("before remove", path); err != nil {
		return err
	}
	gone := 0
	for _, p := range []string{temporary(path), path} {
		switch err := os.Remove(p); {
		case err == nil:
			gone++
		case !errors.Is(err, fs.ErrNotExist):
			return err
		}
	}
	if gone == 0 {
		return nil
	}
	return errors.Join(syncDir(filepath.Dir(path)), watch("after remove", path))
}

func syncDir(dir string) error {
	d, err := os.Open(dir)
	if err != nil {
		return err
	}
	return errors.Join(d.Sync(), d.Close())
}

// BootID names the kernel's present run: devices and mounts do not outlive it.
var BootID = sync.OnceValue(func() string {
	raw, err := os.ReadFile("/proc/sys/kernel/random/boot_id")
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(raw))
})
