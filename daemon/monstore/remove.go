// Package monstore removes what a cluster's mons keep on a node.
package monstore

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Remove deletes the directory of a cluster's mon stores: base/namespace/name, and
// base/namespace when nothing else is in it. A store that a mon has open makes it
// refuse before anything is deleted. What is not there is fine. It never follows a
// symbolic link.
func Remove(base, namespace, name string) error {
	for _, part := range []string{namespace, name} {
		if part == "" || part == "." || part == ".." || filepath.Base(part) != part {
			return fmt.Errorf("remove mon stores: %q is not a name", part)
		}
	}
	if !filepath.IsAbs(base) || filepath.Clean(base) == "/" {
		return fmt.Errorf("remove mon stores: %q is not an absolute path", base)
	}
	root, err := os.OpenRoot(base)
	if errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	if err != nil {
		return fmt.Errorf("remove mon stores: %w", err)
	}
	defer func() { _ = root.Close() }()
	dir := filepath.Join(namespace, name)
	if err := unused(root, dir); err != nil {
		return err
	}
	if err := root.RemoveAll(dir); err != nil {
		return fmt.Errorf("remove mon stores: %w", err)
	}
	if err := root.Remove(namespace); err != nil && !errors.Is(err, fs.ErrNotExist) && !errors.Is(err, unix.ENOTEMPTY) {
		return fmt.Errorf("remove %s: %w", filepath.Join(base, namespace), err)
	}
	return nil
}

// unused reports a store below dir that a mon has open: RocksDB locks it.
func unused(root *os.Root, dir string) error {
	stores, err := fs.Glob(root.FS(), filepath.Join(dir, "mon-*", "store.db", "LOCK"))
	if err != nil {
		return fmt.Errorf("list mon stores: %w", err)
	}
	for _, path := range stores {
		file, err := root.OpenFile(path, os.O_RDWR, 0)
		if err != nil {
			return fmt.Errorf("look at a mon store: %w", err)
		}
		lock := unix.Flock_t{Type: unix.F_WRLCK}
		err = errors.Join(unix.FcntlFlock(file.Fd(), unix.F_GETLK, &lock), file.Close())
		if err != nil {
			return fmt.Errorf("look at the lock of mon store %s: %w", path, err)
		}
		if lock.Type != unix.F_UNLCK {
			return fmt.Errorf("mon store %s is in use: does its mon still run?", filepath.Dir(filepath.Dir(path)))
		}
	}
	return nil
}
