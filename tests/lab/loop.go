package lab

import (
	"bufio"
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"strings"

	"golang.org/x/sys/unix"
)

// loop is an attached loop device.
type loop struct {
	device  string // /dev/loop3
	backing string // as the kernel names the file, or named it when it was still mounted
	dev     uint64 // the filesystem that the file is on
	size    int64
}

func listLoops() ([]loop, error) {
	dirs, err := filepath.Glob("/sys/block/loop*/loop")
	if err != nil {
		return nil, fmt.Errorf("list loop devices: %w", err)
	}
	var loops []loop
	for _, dir := range dirs {
		device := "/dev/" + filepath.Base(filepath.Dir(dir))
		found, err := readLoop(device, dir)
		if errors.Is(err, fs.ErrNotExist) || errors.Is(err, unix.ENXIO) {
			continue // detached meanwhile
		}
		if err != nil {
			return nil, fmt.Errorf("read loop device %s: %w", device, err)
		}
		loops = append(loops, found)
	}
	return loops, nil
}

func readLoop(device, dir string) (loop, error) {
	backing, err := os.ReadFile(filepath.Join(dir, "backing_file"))
	if err != nil {
		return loop{}, err
	}
	sectors, err := os.ReadFile(filepath.Join(filepath.Dir(dir), "size"))
	if err != nil {
		return loop{}, err
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
	if err != nil {
		return loop{}, err
	}
	dev, err := backingDev(device)
	return loop{device: device, backing: strings.TrimSpace(string(backing)), dev: dev, size: size * 512}, err
}

func backingDev(device string) (uint64, error) {
	file, err := os.Open(device)
	if err != nil {
		return 0, err
	}
	defer func() { _ = file.Close() }()
	info, err := unix.IoctlLoopGetStatus64(int(file.Fd()))
	if err != nil {
		return 0, err
	}
	return info.Device, nil
}

// nodeLoops finds the loop devices that programs of the node made (the CSI
// driver's, over files that it serves itself): those whose backing file is on a
// filesystem that only this node has mounted.
func nodeLoops(name string) ([]loop, error) {
	pids, err := processesIn(freezerDir(name))
	if err != nil {
		return nil, err
	}
	inside := map[uint64]bool{}
	seen := map[string]bool{}
	for _, pid := range pids {
		if err := addMounted(pid, seen, inside); err != nil {
			return nil, err
		}
	}
	outside, err := mountedOutside()
	if err != nil {
		return nil, err
	}
	return filterLoops(func(l loop) bool { return inside[l.dev] && !outside[l.dev] })
}

// orphanLoops finds the loop devices of nodes that are gone: their backing file
// is on a virtual filesystem that nobody has mounted any more, and they were not
// there when the lab was brought up. To be called when no node is left.
func orphanLoops() ([]loop, error) {
	before, err := readBaseline()
	if err != nil {
		return nil, err
	}
	mounted, err := mountedOutside()
	if err != nil {
		return nil, err
	}
	return filterLoops(func(l loop) bool {
		virtual := unix.Major(l.dev) == 0
		return virtual && !mounted[l.dev] && !before[l.device] && !mounted[deviceNumber(l.device)]
	})
}

func filterLoops(keep func(loop) bool) ([]loop, error) {
	loops, err := listLoops()
	if err != nil {
		return nil, err
	}
	var kept []loop
	for _, l := range loops {
		if keep(l) {
			kept = append(kept, l)
		}
	}
	return kept, nil
}

func detachLoops(ctx context.Context, loops []loop) error {
	var errs []error
	for _, l := range loops {
		if _, err := run(ctx, "losetup", "--detach", l.device); err != nil && stillAttached(l) {
			errs = append(errs, fmt.Errorf("detach %s: %w", l.device, err))
		}
	}
	return errors.Join(errs...)
}

func stillAttached(l loop) bool {
	_, err := backingDev(l.device)
	return err == nil
}

// mountedOutside collects the filesystems that processes other than the nodes'
// have mounted, in whatever mount namespace.
func mountedOutside() (map[uint64]bool, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	mounted, seen := map[uint64]bool{}, map[string]bool{}
	for _, entry := range entries {
		pid, err := strconv.Atoi(entry.Name())
		if err != nil || inLab(pid) {
			continue
		}
		if err := addMounted(pid, seen, mounted); err != nil {
			return nil, err
		}
	}
	return mounted, nil
}

func inLab(pid int) bool {
	data, err := os.ReadFile(fmt.Sprintf("/proc/%d/cgroup", pid))
	return err == nil && strings.Contains(string(data), ":freezer:/"+cgroupTop+"/node")
}

// addMounted adds the filesystems mounted in a process's mount namespace, each
// namespace once.
func addMounted(pid int, seen map[string]bool, devs map[uint64]bool) error {
	namespace, err := os.Readlink(fmt.Sprintf("/proc/%d/ns/mnt", pid))
	if err != nil || seen[namespace] {
		return nil // ended meanwhile, or not to be seen
	}
	seen[namespace] = true
	file, err := os.Open(fmt.Sprintf("/proc/%d/mountinfo", pid))
	if err != nil {
		return nil
	}
	defer func() { _ = file.Close() }()
	scanner := bufio.NewScanner(file)
	scanner.Buffer(nil, 1<<20)
	for scanner.Scan() {
		if dev, ok := mountDev(scanner.Text()); ok {
			devs[dev] = true
		}
	}
	if err := scanner.Err(); err != nil && !errors.Is(err, unix.ESRCH) && !errors.Is(err, unix.EINVAL) {
		return fmt.Errorf("read mounts of process %d: %w", pid, err)
	}
	return nil
}

// mountDev reads the device from a line of mountinfo ("36 35 0:42 / /mnt ...").
func mountDev(line string) (uint64, bool) {
	fields := strings.Fields(line)
	if len(fields) < 3 {
		return 0, false
	}
	majorText, minorText, ok := strings.Cut(fields[2], ":")
	if !ok {
		return 0, false
	}
	major, err1 := strconv.ParseUint(majorText, 10, 32)
	minor, err2 := strconv.ParseUint(minorText, 10, 32)
	return unix.Mkdev(uint32(major), uint32(minor)), err1 == nil && err2 == nil
}

func deviceNumber(device string) uint64 {
	var stat unix.Stat_t
	if unix.Stat(device, &stat) != nil {
		return 0
	}
	return stat.Rdev
}

func baselineFile() string { return filepath.Join(Dir(), "loops-before") }

// writeBaseline notes the loop devices that were there before the lab.
func writeBaseline() error {
	loops, err := listLoops()
	if err != nil {
		return err
	}
	var text strings.Builder
	for _, l := range loops {
		text.WriteString(l.device + "\n")
	}
	return os.WriteFile(baselineFile(), []byte(text.String()), 0o644)
}

func readBaseline() (map[string]bool, error) {
	before := map[string]bool{}
	data, err := os.ReadFile(baselineFile())
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("read the loop devices that were there before: %w", err)
	}
	for _, device := range strings.Fields(string(data)) {
		before[device] = true
	}
	return before, nil
}
