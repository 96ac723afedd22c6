// Package loop binds files to loop devices with direct I/O.
package loop

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/csi/fault"
)

// Device is a loop device.
type Device struct {
	Path         string
	Major, Minor uint32
}

const (
	control   = "/dev/loop-control"
	major     = 7
	blockSize = 512
	// attempts to win a free device against others that look for one.
	attempts = 100
)

// Bind binds a file to a free loop device. The file's own name, without its
// directories, is what the device is known by afterwards: where many nodes share
// one kernel it must be unique among them.
func Bind(ctx context.Context, file *os.File, readOnly bool) (Device, error) {
	for range attempts {
		if err := ctx.Err(); err != nil {
			return Device{}, fmt.Errorf("find a free loop device: %w", err)
		}
		device, err := free()
		if err != nil {
			return Device{}, err
		}
		err = configure(device, file, readOnly)
		if err == nil {
			return device, nil
		}
		if !errors.Is(err, unix.EBUSY) {
			return Device{}, fmt.Errorf("bind %s: %w", device.Path, err)
		}
	}
	return Device{}, fault.Errorf(fault.Unavailable, "no loop device won in %d attempts", attempts)
}

// free asks the kernel for a device that is free at the moment.
func free() (Device, error) {
	ctl, err := os.OpenFile(control, os.O_RDWR, 0)
	if err != nil {
		return Device{}, fmt.Errorf("find a free loop device: %w", err)
	}
	defer func() { _ = ctl.Close() }()
	n, err := unix.IoctlRetInt(int(ctl.Fd()), unix.LOOP_CTL_GET_FREE)
	if err != nil {
		return Device{}, fmt.Errorf("find a free loop device: %w", err)
	}
	path := "/dev/loop" + strconv.Itoa(n)
	minor, err := minorOf(n)
	if err != nil {
		return Device{}, err
	}
	device := Device{Path: path, Major: major, Minor: minor}
	return device, device.makeNode()
}

// minorOf asks sysfs for a device's minor number: it differs from N where
// devices have partitions.
func minorOf(n int) (uint32, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/sys/block/loop%d/dev", n))
	if errors.Is(err, os.ErrNotExist) {
		return uint32(n), nil
	}
	if err != nil {
		return 0, fmt.Errorf("look at loop device %d: %w", n, err)
	}
	var maj, minor uint32
	if _, err := fmt.Sscanf(string(raw), "%d:%d", &maj, &minor); err != nil || maj != major {
		return 0, fmt.Errorf("look at loop device %d: %q is not its number", n, raw)
	}
	return minor, nil
}

// makeNode makes the device's node where /dev does not follow the kernel, and
// makes it anew where it is another device's.
func (d Device) makeNode() error {
	want := unix.Mkdev(d.Major, d.Minor)
	var st unix.Stat_t
	err := unix.Stat(d.Path, &st)
	if err == nil && st.Mode&unix.S_IFMT == unix.S_IFBLK && st.Rdev == want {
		return nil
	}
	if err == nil {
		return fmt.Errorf("%s is in the way: it is not the device %d:%d", d.Path, d.Major, d.Minor)
	}
	if err := unix.Mknod(d.Path, unix.S_IFBLK|0o660, int(want)); err != nil && !errors.Is(err, unix.EEXIST) {
		return fmt.Errorf("make the device node %s: %w", d.Path, err)
	}
	return nil
}

func configure(device Device, file *os.File, readOnly bool) error {
	mode := os.O_RDWR
	config := unix.LoopConfig{Fd: uint32(file.Fd()), Size: blockSize}
	config.Info.Flags = unix.LO_FLAGS_DIRECT_IO
	copy(config.Info.File_name[:unix.LO_NAME_SIZE-1], filepath.Base(file.Name()))
	if readOnly {
		mode, config.Info.Flags = os.O_RDONLY, config.Info.Flags|unix.LO_FLAGS_READ_ONLY
	}
	node, err := os.OpenFile(device.Path, mode, 0)
	if err != nil {
		return err
	}
	defer func() { _ = node.Close() }()
	return unix.IoctlLoopConfigure(int(node.Fd()), &config)
}

// BoundTo reports whether a device is bound to a file of this name. It asks
// sysfs, which answers also when the file's filesystem is dead.
func BoundTo(path, name string) (bool, error) {
	raw, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(path), "loop/backing_file"))
	if errors.Is(err, os.ErrNotExist) || errors.Is(err, unix.ENXIO) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("look at %s: %w", path, err)
	}
	return filepath.Base(strings.TrimSpace(string(raw))) == name, nil
}

// Find returns the device that is bound to a file of this name; nil for none.
func Find(name string) (*Device, error) {
	bound, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, fmt.Errorf("look for the device of %s: %w", name, err)
	}
	for _, file := range bound {
		disk := filepath.Base(filepath.Dir(filepath.Dir(file)))
		path := "/dev/" + disk
		if is, err := BoundTo(path, name); err != nil || !is {
			continue // that of another may vanish meanwhile
		}
		n, err := strconv.Atoi(strings.TrimPrefix(disk, "loop"))
		if err != nil {
			return nil, fmt.Errorf("look for the device of %s: %w", name, err)
		}
		minor, err := minorOf(n)
		if err != nil {
			return nil, err
		}
		device := &Device{Path: path, Major: major, Minor: minor}
		return device, device.makeNode()
	}
	return nil, nil
}

// ErrHeld is in the chain when a device is mounted: it stays as it is.
var ErrHeld = errors.New("still mounted or held")

// Release unbinds a device that is bound to a file of this name. Refused while it is mounted
// or open.
func Release(path, name string) error {
	if bound, err := BoundTo(path, name); err != nil || !bound {
		return err
	}
	node, err := exclusively(path)
	if errors.Is(err, unix.EBUSY) {
		return fault.Errorf(fault.Refused, "%s: %w", filepath.Base(path), ErrHeld)
	}
	if err != nil {
		return fmt.Errorf("release %s: %w", path, err)
	}
	err = unix.IoctlSetInt(int(node.Fd()), unix.LOOP_CLR_FD, 0)
	if err := errors.Join(err, node.Close()); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("release %s: %w", path, err)
	}
	// The kernel defers it to the last close where somebody has the device open.
	if bound, err := BoundTo(path, name); err != nil || bound {
		return errors.Join(err, fault.Errorf(fault.Refused, "%s is still open", filepath.Base(path)))
	}
	return nil
}

// exclusively opens a device; EBUSY is in the chain while it is mounted, in any namespace.
func exclusively(path string) (*os.File, error) {
	return os.OpenFile(path, os.O_RDONLY|unix.O_EXCL, 0)
}

// Held reports whether a device is mounted, or held by another device.
func Held(path string) (bool, error) {
	node, err := exclusively(path)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("look whether %s is held: %w", path, err)
	}
	return false, node.Close()
}

// Sync returns when what the kernel keeps of a device is written.
func Sync(path string) error {
	node, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	if err := errors.Join(node.Sync(), node.Close()); err != nil {
		return fmt.Errorf("sync %s: %w", path, err)
	}
	return nil
}

// Open returns the numbers of all block devices that a process has open: of those that this one
// sees, in its PID namespace.
func Open() (map[uint64]bool, error) {
	processes, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list the processes: %w", err)
	}
	open := map[uint64]bool{}
	for _, process := range processes {
		dir := filepath.Join("/proc", process.Name(), "fd")
		files, _ := os.ReadDir(dir) // no process, or none any more
		for _, file := range files {
			var stat unix.Statx_t // of what is known already: a file's server may be dead
			err := unix.Statx(unix.AT_FDCWD, filepath.Join(dir, file.Name()), unix.AT_STATX_DONT_SYNC, unix.STATX_TYPE, &stat)
			if err == nil && stat.Mode&unix.S_IFMT == unix.S_IFBLK {
				open[unix.Mkdev(stat.Rdev_major, stat.Rdev_minor)] = true
			}
		}
	}
	return open, nil
}

// Abandon unbinds a device whose file is dead, as soon as it is not used.
func Abandon(path, name string) error {
	bound, err := BoundTo(path, name)
	if err != nil || !bound {
		return err
	}
	node, err := os.Open(path)
	if err != nil {
		return fmt.Errorf("abandon %s: %w", path, err)
	}
	defer func() { _ = node.Close() }()
	if err := unix.IoctlSetInt(int(node.Fd()), unix.LOOP_CLR_FD, 0); err != nil && !errors.Is(err, unix.ENXIO) {
		return fmt.Errorf("abandon %s: %w", path, err)
	}
	return nil
}

const setCapacity = 0x4c07 // LOOP_SET_CAPACITY (linux/loop.h)

// Refresh makes a device as large as its file now is.
func Refresh(path string) error {
	node, err := os.OpenFile(path, os.O_RDONLY, 0)
	if err != nil {
		return fmt.Errorf("resize %s: %w", path, err)
	}
	defer func() { _ = node.Close() }()
	if err := unix.IoctlSetInt(int(node.Fd()), setCapacity, 0); err != nil {
		return fmt.Errorf("resize %s: %w", path, err)
	}
	return nil
}

// Size returns a block device's size in bytes.
func Size(path string) (int64, error) {
	node, err := os.Open(path)
	if err != nil {
		return 0, fmt.Errorf("size of %s: %w", path, err)
	}
	defer func() { _ = node.Close() }()
	var size uint64
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, node.Fd(), unix.BLKGETSIZE64, uintptr(unsafe.Pointer(&size))); errno != 0 {
		return 0, fmt.Errorf("size of %s: %w", path, errno)
	}
	return int64(size), nil
}
