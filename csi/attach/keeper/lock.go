package keeper

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// Lock takes the lock that a file stands for, and waits for the process that has
// it. The kernel gives it up when that process is dead to its last thread, and
// not before: then nothing of it can touch a device any more. The lock is
// this process's until it ends.
func Lock(ctx context.Context, path string) error {
	file, err := openLock(path)
	if err != nil {
		return err
	}
	taken := make(chan error, 1)
	go func() { taken <- unix.Flock(int(file.Fd()), unix.LOCK_EX) }()
	select {
	case err := <-taken:
		if err != nil {
			return fmt.Errorf("lock %s: %w", path, err)
		}
		held = append(held, file)
		return nil
	case <-ctx.Done():
		return fmt.Errorf("another process has the lock %s: %w", path, ctx.Err())
	}
}

// held keeps the locks' files from being collected, which would end the locks.
var held []*os.File

// Locked reports whether another process has a lock.
func Locked(path string) (bool, error) {
	file, err := openLock(path)
	if err != nil {
		return false, err
	}
	defer func() { _ = file.Close() }()
	err = unix.Flock(int(file.Fd()), unix.LOCK_EX|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at the lock %s: %w", path, err)
	}
	return false, nil
}

func openLock(path string) (*os.File, error) {
	if err := os.MkdirAll(filepath.Dir(path), 0o700); err != nil {
		return nil, fmt.Errorf("make the directory of the lock: %w", err)
	}
	file, err := os.OpenFile(path, os.O_RDWR|os.O_CREATE, 0o600)
	if err != nil {
		return nil, fmt.Errorf("open the lock: %w", err)
	}
	return file, nil
}
