package host

import (
	"context"
	"errors"
	"fmt"
	"os"

	"k8s.io/klog/v2"
)

// slack is what a filesystem may leave of its device, in bytes: less than the
// step that volumes grow by.
const slack = 1 << 20

// Fill makes the filesystem that is mounted at a path fill its device, where it
// does not: a volume that was made larger than the snapshot it began as, or that
// grew while it was nowhere mounted.
func (l *Linux) Fill(ctx context.Context, device, path, filesystem string, options []string) error {
	small, err := l.smaller(device, filesystem)
	if err != nil || !small {
		return err
	}
	grown := l.Grow(ctx, device, path)
	if grown == nil || filesystem != "ext4" {
		return grown
	}
	// The kernel lets no container without CAP_SYS_RESOURCE grow a mounted ext4.
	klog.FromContext(ctx).Info("Growing the filesystem unmounted", "device", device, "reason", grown.Error())
	if err := l.Unmount(ctx, path); err != nil {
		return errors.Join(grown, err)
	}
	if err := l.growUnmounted(ctx, device); err != nil {
		return errors.Join(grown, err)
	}
	return l.Mount(ctx, device, path, filesystem, options)
}

func (l *Linux) smaller(device, filesystem string) (bool, error) {
	size, err := l.DeviceSize(device)
	if err != nil {
		return false, err
	}
	f, err := os.Open(device)
	if err != nil {
		return false, fmt.Errorf("look at the filesystem's size: %w", err)
	}
	defer func() { _ = f.Close() }()
	used, err := filesystemSize(f, filesystem)
	if err != nil {
		return false, fmt.Errorf("%s: %w", device, err)
	}
	return size-used >= slack, nil
}

// growUnmounted grows an ext4; resize2fs wants it checked right before.
func (l *Linux) growUnmounted(ctx context.Context, device string) error {
	// 1 says that something was corrected.
	if err := l.run(ctx, 1, "e2fsck", "-f", "-p", device); err != nil {
		return err
	}
	return l.run(ctx, 0, "resize2fs", device)
}

// run runs a program, which may end with a status of up to fine.
func (l *Linux) run(ctx context.Context, fine int, name string, args ...string) error {
	out, err := l.exec.CommandContext(ctx, name, args...).CombinedOutput()
	var status interface{ ExitStatus() int }
	if err == nil || errors.As(err, &status) && status.ExitStatus() <= fine {
		return nil
	}
	return fmt.Errorf("%s %v: %w: %s", name, args, err, out)
}
