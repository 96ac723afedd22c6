package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sync/errgroup"
)

// Down removes everything that Up made, whatever state it is in. What makes the
// next Up quick stays: Kubernetes, the images, and the nodes' copies of them.
func Down(ctx context.Context) error {
	if err := needHost(); err != nil {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()
	steps := newProgress()
	return steps.run("lab down", func() error { return clean(ctx) })
}

// clean goes on after a failure, so that one stubborn thing does not keep the
// rest; the state goes last, and only when all else is gone.
func clean(ctx context.Context) error {
	var errs []error
	group := errgroup.Group{}
	for index := 1; index <= maxNodes; index++ {
		node := nodeAt(index)
		group.Go(func() error { return node.kill(ctx) })
	}
	group.Go(func() error { return killAll(ctx, "") })
	errs = append(errs, group.Wait())
	errs = append(errs, detachAll(ctx))
	errs = append(errs, removeNetwork(ctx))
	errs = append(errs, removeCgroups(ctx, ""))
	if err := errors.Join(errs...); err != nil {
		return err
	}
	removeMountPoints()
	return removeState()
}

// detachAll detaches the nodes' disks and what nodes that ended too early left.
func detachAll(ctx context.Context) error {
	orphans, err := orphanLoops()
	if err != nil {
		return err
	}
	disks, err := diskLoops()
	if err != nil {
		return err
	}
	if err := detachLoops(ctx, append(orphans, disks...)); err != nil {
		return err
	}
	return releaseFailedDisks(ctx)
}

// removeState refuses to walk into a mount: removing files there would remove
// somebody's data.
func removeState() error {
	mounts, err := os.ReadFile("/proc/self/mounts")
	if err != nil {
		return fmt.Errorf("look for mounts: %w", err)
	}
	for _, line := range strings.Split(string(mounts), "\n") {
		if fields := strings.Fields(line); len(fields) > 1 && strings.HasPrefix(fields[1], Dir()+"/") {
			return fmt.Errorf("%s is still mounted", fields[1])
		}
	}
	entries, err := os.ReadDir(Dir())
	if err != nil && !os.IsNotExist(err) {
		return fmt.Errorf("remove the lab's state: %w", err)
	}
	// The directory itself stays: it may be bound into a build root.
	for _, entry := range entries {
		if err := os.RemoveAll(filepath.Join(Dir(), entry.Name())); err != nil {
			return fmt.Errorf("remove the lab's state: %w", err)
		}
	}
	return nil
}

// leftovers tells whether anything of an earlier lab is there.
func leftovers() bool {
	return Exists() || cgroupsLeft() || linkExists(bridgeName)
}
