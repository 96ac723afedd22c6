// Package fake is a host for tests, on mount-utils' fake mounter.
package fake

import (
	"context"
	"fmt"
	"os"
	"slices"
	"sync"

	"golang.org/x/sys/unix"
	mount "k8s.io/mount-utils"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/node/host"
)

// Host keeps mounts in memory. Devices are known by their paths.
type Host struct {
	*mount.FakeMounter
	// Devices has the numbers of device nodes.
	Devices func(path string) *host.Number

	mu    sync.Mutex
	fail  func(call string) error
	Grown []string
	Sizes func(path string) int64
	// Foreign devices hold data of no known format, Broken filesystems went
	// read-only, Dead ones do not answer; each by its path.
	Foreign, Broken, Dead map[string]bool
	// Unclean says of a device's filesystem that something is in its log, and Replay
	// replays that; nil is a clean one.
	Unclean func(device string) bool
	Replay  func(device string) error
}

// New returns a host without mounts.
func New(devices func(path string) *host.Number) *Host {
	return &Host{FakeMounter: mount.NewFakeMounter(nil), Devices: devices}
}

// FailWith makes each call ask f first.
func (h *Host) FailWith(f func(call string) error) {
	h.mu.Lock()
	defer h.mu.Unlock()
	h.fail = f
}

func (h *Host) enter(call string) error {
	h.mu.Lock()
	defer h.mu.Unlock()
	if h.fail == nil {
		return nil
	}
	return h.fail(call)
}

// CanFormat everything but btrfs.
func (h *Host) CanFormat(filesystem string) bool { return filesystem != "btrfs" }

// Mount notes a mount.
func (h *Host) Mount(_ context.Context, device, path, filesystem string, options []string) error {
	if err := h.enter("Mount"); err != nil {
		return err
	}
	if slices.Contains(options, "ro") && h.Unclean != nil && h.Unclean(device) {
		return fmt.Errorf("mount %s: cannot be written to, and its log is not empty", device)
	}
	return h.FakeMounter.Mount(device, path, filesystem, options)
}

// MountWithoutLog notes a mount.
func (h *Host) MountWithoutLog(_ context.Context, device, path, filesystem string, options []string) error {
	if err := h.enter("MountWithoutLog"); err != nil {
		return err
	}
	return h.FakeMounter.Mount(device, path, filesystem, append(slices.Clone(options), "norecovery"))
}

// Recover notes a mount, and replays the log.
func (h *Host) Recover(_ context.Context, device, path, filesystem string, options []string) error {
	if err := h.enter("Recover"); err != nil {
		return err
	}
	if h.Replay != nil {
		if err := h.Replay(device); err != nil {
			return err
		}
	}
	return h.FakeMounter.Mount(device, path, filesystem, options)
}

// Flush finds all stable.
func (h *Host) Flush(context.Context, string) error { return h.enter("Flush") }

// Bind notes a mount of what is mounted at the source.
func (h *Host) Bind(_ context.Context, source, path string, readOnly bool) error {
	if err := h.enter("Bind"); err != nil {
		return err
	}
	options := []string{"bind"}
	if readOnly {
		options = append(options, "ro")
	}
	return h.FakeMounter.Mount(source, path, "", options)
}

// Unmount takes the mounts of a path off.
func (h *Host) Unmount(_ context.Context, path string) error {
	if err := h.enter("Unmount"); err != nil {
		return err
	}
	return h.FakeMounter.Unmount(path)
}

func (h *Host) find(path string) *mount.MountPoint {
	points, _ := h.FakeMounter.List()
	for _, p := range slices.Backward(points) {
		if p.Path == path {
			return &p
		}
	}
	return nil
}

// MountAt finds the mount of a path.
func (h *Host) MountAt(path string) (*host.Mount, error) {
	if err := h.enter("MountAt"); err != nil {
		return nil, err
	}
	p := h.find(path)
	if p == nil {
		return nil, nil
	}
	m := &host.Mount{Filesystem: p.Type, ReadOnly: slices.Contains(p.Opts, "ro")}
	m.WithoutLog = slices.Contains(p.Opts, "norecovery")
	m.FilesystemReadOnly = m.ReadOnly || h.Broken[path]
	if n := h.Devices(p.Device); n != nil {
		m.Device = *n
	}
	return m, nil
}

// MountsOf finds the mounts of a device.
func (h *Host) MountsOf(device host.Number) (paths []string, err error) {
	if err := h.enter("MountsOf"); err != nil {
		return nil, err
	}
	points, err := h.FakeMounter.List()
	for _, p := range points {
		if n := h.Devices(p.Device); n != nil && *n == device {
			paths = append(paths, p.Path)
		}
	}
	return paths, err
}

// DeviceAt knows the devices, also where one is bound to another path.
func (h *Host) DeviceAt(path string) (*host.Number, error) {
	if n := h.Devices(path); n != nil {
		return n, nil
	}
	if p := h.find(path); p != nil && p.Type == "" {
		return h.Devices(p.Device), nil
	}
	return nil, nil
}

// Grow notes the path.
func (h *Host) Grow(_ context.Context, _, path string) error {
	if err := h.enter("Grow"); err != nil {
		return err
	}
	h.mu.Lock()
	defer h.mu.Unlock()
	h.Grown = append(h.Grown, path)
	return nil
}

// CheckBlank refuses what is said to be foreign.
func (h *Host) CheckBlank(device, _ string) error {
	if h.Foreign[device] {
		return fault.Errorf(fault.Refused, "the image holds data")
	}
	return nil
}

// Fill finds nothing to grow.
func (h *Host) Fill(_ context.Context, _, _, _ string, _ []string) error {
	return h.enter("Fill")
}

// Alive is what is not dead.
func (h *Host) Alive(path string) error {
	if h.Dead[path] {
		return fmt.Errorf("look at %s: %w", path, unix.EIO)
	}
	return nil
}

// Usage is always the same.
func (h *Host) Usage(path string) (host.Usage, error) {
	if _, err := os.Stat(path); err != nil {
		return host.Usage{}, fmt.Errorf("statfs: %w", err)
	}
	return host.Usage{Bytes: 100, BytesFree: 60, BytesAvailable: 50, Inodes: 10, InodesFree: 9, InodesAvailable: 9}, nil
}

// DeviceSize asks what the test set, else 1 GiB.
func (h *Host) DeviceSize(path string) (int64, error) {
	if h.Sizes != nil {
		return h.Sizes(path), nil
	}
	return 1 << 30, nil
}
