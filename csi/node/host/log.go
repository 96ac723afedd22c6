package host

import (
	"context"
	"fmt"
	"os"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/csi/fault"
)

// noReplay mounts a filesystem that was not unmounted, as a snapshot has it, from
// a device that cannot be written to: its log stays as it is.
var noReplay = map[string]string{"ext4": "norecovery", "xfs": "norecovery", "btrfs": "rescue=nologreplay"}

// keepsLog reports whether an option of a mount, as it is asked for or as the
// kernel shows it, keeps the log from being replayed.
func keepsLog(option string) bool {
	return option == "norecovery" || option == "noload" || option == "nologreplay" || strings.HasPrefix(option, "rescue=")
}

func withoutLog(options string) bool {
	return slices.ContainsFunc(strings.Split(options, ","), keepsLog)
}

// MountWithoutLog mounts a filesystem as it is.
func (l *Linux) MountWithoutLog(_ context.Context, device, path, filesystem string, options []string) error {
	options = slices.Concat(options, mountOptions(filesystem), []string{noReplay[filesystem]})
	if err := l.mounter.Interface.Mount(device, path, filesystem, options); err != nil {
		return fmt.Errorf("mount %s at %s without its log: %w", device, path, err)
	}
	return nil
}

// Recover mounts a filesystem to write.
func (l *Linux) Recover(_ context.Context, device, path, filesystem string, options []string) error {
	format, err := l.mounter.GetDiskFormat(device)
	switch {
	case err != nil:
		return fmt.Errorf("look at what %s holds: %w", device, err)
	case format == "":
		return fault.Errorf(fault.Refused, "the volume is to be read only, and holds no filesystem: what it was made from was never mounted")
	case format != filesystem:
		return fault.Errorf(fault.Refused, "the volume holds %s, not %s", format, filesystem)
	}
	options = slices.DeleteFunc(slices.Clone(options), func(o string) bool { return o == "ro" || keepsLog(o) })
	if err := l.mounter.Interface.Mount(device, path, filesystem, append(options, mountOptions(filesystem)...)); err != nil {
		return fmt.Errorf("mount %s at %s to replay its log: %w", device, path, err)
	}
	return nil
}

// Flush has the kernel write what it keeps of a device, and the device make it stable.
func (l *Linux) Flush(_ context.Context, device string) error {
	f, err := os.Open(device)
	if err != nil {
		return fmt.Errorf("flush %s: %w", device, err)
	}
	defer func() { _ = f.Close() }()
	if err := f.Sync(); err != nil {
		return fmt.Errorf("flush %s: %w", device, err)
	}
	return nil
}
