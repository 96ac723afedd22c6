// Package host is what staging touches of the node's kernel: mounts, filesystems
// and device nodes.
package host

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"slices"
	"strings"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"
	mount "k8s.io/mount-utils"
	utilexec "k8s.io/utils/exec"

	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/fault"
)

// Number is a device's number.
type Number struct{ Major, Minor uint32 }

func (n Number) String() string { return fmt.Sprintf("%d:%d", n.Major, n.Minor) }

// Mount is what is mounted at a path.
type Mount struct {
	// Device whose filesystem it is.
	Device     Number
	Filesystem string
	ReadOnly   bool
	// FilesystemReadOnly: nobody can write, wherever it is mounted. The kernel makes
	// a filesystem so when it meets an error.
	FilesystemReadOnly bool
	// WithoutLog: the filesystem is read without what is in its log.
	WithoutLog bool
	source     string
}

// Usage is how full a filesystem is.
type Usage struct {
	Bytes, BytesFree, BytesAvailable    int64
	Inodes, InodesFree, InodesAvailable int64
}

// Host is the kernel's side of staging.
type Host interface {
	// CanFormat reports whether a filesystem can be made here.
	CanFormat(filesystem string) bool
	// CheckBlank refuses a device that only seems to be empty.
	CheckBlank(device, filesystem string) error
	// Mount mounts a device's filesystem, which it makes on an empty device, unless
	// the options have ro.
	Mount(ctx context.Context, device, path, filesystem string, options []string) error
	// MountWithoutLog mounts a filesystem that was not unmounted, without replaying
	// its log; the options have ro.
	MountWithoutLog(ctx context.Context, device, path, filesystem string, options []string) error
	// Recover mounts a device's filesystem to write, which replays its log. It
	// makes no filesystem where there is none.
	Recover(ctx context.Context, device, path, filesystem string, options []string) error
	// Bind mounts a path at another.
	Bind(ctx context.Context, source, path string, readOnly bool) error
	// Unmount takes off what is mounted at a path, all layers of it; none is fine.
	Unmount(ctx context.Context, path string) error
	// MountAt returns what is mounted at a path, nil when nothing is.
	MountAt(path string) (*Mount, error)
	// MountsOf returns the paths at which a device's filesystem, or a part of it, is mounted, in
	// the order in which they were.
	MountsOf(device Number) ([]string, error)
	// DeviceAt returns the number of the device node at a path, nil when none is there.
	DeviceAt(path string) (*Number, error)
	// Grow makes the filesystem that is mounted at a path fill its device.
	Grow(ctx context.Context, device, path string) error
	// Fill is Grow where the filesystem is smaller than its device. It may have to
	// mount it anew.
	Fill(ctx context.Context, device, path, filesystem string, options []string) error
	// Flush returns when what was written to a device is stable.
	Flush(ctx context.Context, device string) error
	// Alive asks the filesystem at a path for a sign of life that needs no I/O.
	Alive(path string) error
	// Usage of the filesystem at a path.
	Usage(path string) (Usage, error)
	// DeviceSize returns a device's bytes.
	DeviceSize(path string) (int64, error)
}

// Linux is the real host.
type Linux struct {
	mounter mount.SafeFormatAndMount
	exec    utilexec.Interface
}

// NewLinux returns the real host.
func NewLinux() *Linux {
	exec := utilexec.New()
	return &Linux{mounter: mount.SafeFormatAndMount{Interface: mount.New(""), Exec: exec}, exec: exec}
}

// formatOptions make filesystems without writing to or trimming the whole
// device, which is empty: an image reads as zeroes where nothing was written.
// An ext4 of any size may grow beyond 16 TiB.
var formatOptions = map[string][]string{
	"ext4":  {"-O", "64bit", "-E", "nodiscard,assume_storage_prezeroed=1"},
	"xfs":   {"-K", "-c", "options=" + xfsFeatures},
	"btrfs": {"-K"},
}

// xfsFeatures, a file of xfsprogs, lists those that Linux 5.15 knows: a kernel
// refuses an xfs with features that are younger than itself, and the node image's
// xfsprogs is younger than most nodes' kernels.
const xfsFeatures = "/usr/share/xfsprogs/mkfs/lts_5.15.conf"

// network tells the node's systemd, through the table of mounts in /run/mount that mount(8)
// and systemd share, that a mount needs the network: it is unmounted before the network goes,
// where the node is shut down without having been drained (systemd.mount(5), _netdev).
const network = "_netdev"

// mountTable is that table.
const mountTable = "/run/mount/utab"

// mountOptions that a filesystem always gets. An xfs of a snapshot or a clone has the UUID of
// its origin, which may be mounted beside it.
func mountOptions(filesystem string) []string {
	if filesystem == "xfs" {
		return []string{network, "nouuid"}
	}
	return []string{network}
}

// CanFormat looks for the filesystem's own tool.
func (l *Linux) CanFormat(filesystem string) bool {
	_, err := l.exec.LookPath("mkfs." + filesystem)
	return err == nil
}

// Mount mounts a device's filesystem.
func (l *Linux) Mount(_ context.Context, device, path, filesystem string, options []string) error {
	options = slices.Concat(options, mountOptions(filesystem))
	err := l.mounter.FormatAndMountSensitiveWithFormatOptions(device, path, filesystem, options, nil, formatOptions[filesystem])
	if err == nil {
		return nil
	}
	var mountErr mount.MountError
	switch {
	case errors.As(err, &mountErr) && mountErr.Type == mount.FilesystemMismatch:
		return fault.Errorf(fault.Refused, "the device does not hold %s: %w", filesystem, err)
	case errors.As(err, &mountErr) && mountErr.Type == mount.UnformattedReadOnly:
		return fault.Errorf(fault.Refused, "the device holds no filesystem yet, and is read-only: mount it once to write: %w", err)
	}
	return fmt.Errorf("mount %s at %s: %w", device, path, err)
}

// Bind mounts a path at another.
func (l *Linux) Bind(_ context.Context, source, path string, readOnly bool) error {
	options := []string{"bind", network}
	if readOnly {
		options = append(options, "ro")
	}
	if err := l.mounter.Interface.Mount(source, path, "", options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, path, err)
	}
	return nil
}

// layers is the most that is taken off one path.
const layers = 16

// Unmount takes off what is mounted at a path.
func (l *Linux) Unmount(ctx context.Context, path string) error {
	for range layers {
		m, err := l.MountAt(path)
		if err != nil {
			return err
		}
		if m == nil {
			l.forget(ctx, path)
			return nil
		}
		if err := ctx.Err(); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
		if err := unix.Unmount(path, unix.UMOUNT_NOFOLLOW); err != nil {
			return fmt.Errorf("unmount %s: %w", path, err)
		}
	}
	return fmt.Errorf("unmount %s: still mounted after %d times", path, layers)
}

// forget takes a path out of the table of mounts, which the kernel knows nothing of. A line
// that stays there does no harm.
func (l *Linux) forget(ctx context.Context, path string) {
	table, err := os.ReadFile(mountTable)
	if err != nil || !strings.Contains(string(table), "TARGET="+strings.ReplaceAll(path, " ", `\040`)+" ") {
		return // without a table there is no line in it
	}
	if out, err := l.exec.CommandContext(ctx, "umount", "--fake", "--no-canonicalize", "--", path).CombinedOutput(); err != nil {
		klog.FromContext(ctx).Error(err, "A line of the table of mounts stays", "table", mountTable, "path", path, "said", string(out))
	}
}

// MountsOf reads the kernel's list of mounts.
func (l *Linux) MountsOf(device Number) ([]string, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	var paths []string
	for _, line := range strings.Split(string(raw), "\n") {
		fields := strings.Fields(line)
		if len(fields) < 10 {
			continue
		}
		path := unescape(fields[4])
		is := fields[2] == device.String()
		if !is && strings.HasPrefix(fields[2], "0:") && slices.Contains(fields, "btrfs") {
			m, err := l.MountAt(path) // it knows a btrfs by its source
			if err != nil {
				return nil, err
			}
			is = m != nil && m.Device == device
		}
		if is {
			paths = append(paths, path)
		}
	}
	return paths, nil
}

// MountAt reads the kernel's list of mounts: a stat would go to the device, which
// may be dead.
func (l *Linux) MountAt(path string) (*Mount, error) {
	raw, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, fmt.Errorf("read the mounts: %w", err)
	}
	m, err := mountAt(string(raw), path)
	if err != nil || m == nil || m.Device.Major != 0 || m.Filesystem != "btrfs" {
		return m, err
	}
	// A btrfs has a number of its own; its device stands as the source.
	number, err := l.DeviceAt(m.source)
	if number != nil {
		m.Device = *number
	}
	return m, err
}

// mountAt finds the uppermost mount at a path in /proc/self/mountinfo:
//
//	36 35 98:0 /root /mount/point rw,noatime master:1 - ext3 /dev/root rw
func mountAt(info, path string) (*Mount, error) {
	var found *Mount
	for line := range strings.Lines(info) {
		fields := strings.Fields(line)
		if len(fields) < 10 || unescape(fields[4]) != path {
			continue
		}
		m := &Mount{ReadOnly: strings.HasPrefix(fields[5]+",", "ro,")}
		if _, err := fmt.Sscanf(fields[2], "%d:%d", &m.Device.Major, &m.Device.Minor); err != nil {
			return nil, fmt.Errorf("read the mounts: %q: %w", line, err)
		}
		for i, f := range fields {
			if f == "-" && i+2 < len(fields) {
				m.Filesystem, m.source = fields[i+1], unescape(fields[i+2])
				if i+3 < len(fields) {
					m.FilesystemReadOnly, m.WithoutLog = readOnly(fields[i+3]), withoutLog(fields[i+3])
				}
			}
		}
		found = m
	}
	return found, nil
}

// readOnly finds what says that a filesystem cannot be written to in its options;
// ext4 has a word of its own for what it does on an error.
func readOnly(options string) bool {
	for option := range strings.SplitSeq(options, ",") {
		if option == "ro" || option == "emergency_ro" {
			return true
		}
	}
	return false
}

// unescape undoes the octal codes of blanks in mountinfo.
func unescape(path string) string {
	return strings.NewReplacer(`\040`, " ", `\011`, "\t", `\012`, "\n", `\134`, `\`).Replace(path)
}

// DeviceAt returns the number of a device node.
func (l *Linux) DeviceAt(path string) (*Number, error) {
	var st unix.Stat_t
	err := unix.Stat(path, &st)
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("look at %s: %w", path, err)
	}
	if st.Mode&unix.S_IFMT != unix.S_IFBLK {
		return nil, nil
	}
	return &Number{unix.Major(st.Rdev), unix.Minor(st.Rdev)}, nil
}

// Grow grows a mounted filesystem.
func (l *Linux) Grow(_ context.Context, device, path string) error {
	if _, err := mount.NewResizeFs(l.exec).Resize(device, path); err != nil {
		return fmt.Errorf("grow the filesystem at %s: %w", path, err)
	}
	return nil
}

// Alive looks at the filesystem's root, which the kernel has in memory: an xfs
// that was shut down answers with an error all the same.
func (l *Linux) Alive(path string) error {
	var st unix.Stat_t
	if err := unix.Stat(path, &st); err != nil {
		return fmt.Errorf("look at %s: %w", path, err)
	}
	return nil
}

// Usage asks the filesystem.
func (l *Linux) Usage(path string) (Usage, error) {
	var s unix.Statfs_t
	if err := unix.Statfs(path, &s); err != nil {
		return Usage{}, fmt.Errorf("statfs %s: %w", path, err)
	}
	return Usage{
		Bytes: int64(s.Blocks) * s.Bsize, BytesFree: int64(s.Bfree) * s.Bsize, BytesAvailable: int64(s.Bavail) * s.Bsize,
		Inodes: int64(s.Files), InodesFree: int64(s.Ffree), InodesAvailable: int64(s.Ffree),
	}, nil
}

// DeviceSize asks the device.
func (l *Linux) DeviceSize(path string) (int64, error) { return loop.Size(path) }
