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
	"time"

	"golang.org/x/sys/unix"
)

// loop is an attached loop device, as far as the kernel tells without asking the
// filesystem that the file is on: a frozen node's would never answer.
type loop struct {
	device  string // /dev/loop3
	backing string // as the kernel names the file, or named it when it was still mounted
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
	return loop{device: device, backing: strings.TrimSpace(string(backing)), size: size * 512}, err
}

// backing is what the filesystem of a loop device's file answers.
type backing struct {
	dev   uint64 // the filesystem, when it answers
	state backingState
}

type backingState int

const (
	backingAnswers backingState = iota
	backingStuck                // its server is frozen or busy
	backingDead                 // its server has ended
)

// answerDeadline is how long a filesystem may take to say which it is.
const answerDeadline = 500 * time.Millisecond

// askBacking asks all loop devices' filesystems at once.
func askBacking(loops []loop) map[string]backing {
	type answer struct {
		device string
		backing
	}
	answers := make(chan answer, len(loops))
	for _, l := range loops {
		go func() {
			dev, err := backingDev(l.device)
			state := backingAnswers
			if err != nil {
				state = backingDead
			}
			answers <- answer{l.device, backing{dev, state}}
		}()
	}
	found := map[string]backing{}
	for _, l := range loops {
		found[l.device] = backing{state: backingStuck}
	}
	late := time.After(answerDeadline)
	for range loops {
		select {
		case a := <-answers:
			found[a.device] = a.backing
		case <-late:
			return found
		}
	}
	return found
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

// nodeLoops are the loop devices that programs of a node made (the CSI driver's,
// over files that it serves itself).
type nodeLoops struct {
	sure  []loop
	stuck []loop // it, or another frozen node: which, its end will tell
}

// findNodeLoops: a loop device is the node's when only the node has mounted the
// filesystem of the file behind it, or the one on it.
func findNodeLoops(name string) (nodeLoops, error) {
	var found nodeLoops
	pids, err := processesIn(freezerDir(name))
	if err != nil {
		return found, err
	}
	inside, seen := map[uint64]bool{}, map[string]bool{}
	for _, pid := range pids {
		if err := addMounted(pid, seen, inside); err != nil {
			return found, err
		}
	}
	outside, err := mountedOutside(seen)
	if err != nil {
		return found, err
	}
	only := func(dev uint64) bool { return dev != 0 && inside[dev] && !outside[dev] }
	loops, err := listLoops()
	if err != nil {
		return found, err
	}
	answers := askBacking(loops)
	for _, l := range loops {
		switch answer := answers[l.device]; {
		case isDisk(l):
		case only(deviceNumber(l.device)), answer.state == backingAnswers && only(answer.dev):
			found.sure = append(found.sure, l)
		case answer.state == backingStuck:
			found.stuck = append(found.stuck, l)
		}
	}
	return found, nil
}

// afterEnd are the node's loop devices, now that its processes have ended: a
// filesystem that was stuck and is dead now was served by it.
func (n nodeLoops) afterEnd() []loop {
	all := n.sure
	for device, answer := range askBacking(n.stuck) {
		if answer.state != backingDead {
			continue
		}
		for _, l := range n.stuck {
			if l.device == device {
				all = append(all, l)
			}
		}
	}
	return all
}

// orphanLoops finds the loop devices of nodes that are gone: their backing file
// is on a virtual filesystem whose server has ended or that nobody has mounted
// any more, nobody has mounted what is on them, and they were not there when the
// lab was brought up. To be called when no node is left.
func orphanLoops() ([]loop, error) {
	before, err := readBaseline()
	if err != nil || before == nil {
		return nil, err // no lab has begun
	}
	mounted, err := mountedOutside(map[string]bool{})
	if err != nil {
		return nil, err
	}
	loops, err := listLoops()
	if err != nil {
		return nil, err
	}
	answers := askBacking(loops)
	var orphans []loop
	for _, l := range loops {
		answer := answers[l.device]
		abandoned := answer.state == backingAnswers && unix.Major(answer.dev) == 0 && !mounted[answer.dev]
		if (abandoned || answer.state == backingDead) && !before[l.device] && !mounted[deviceNumber(l.device)] {
			orphans = append(orphans, l)
		}
	}
	return orphans, nil
}

func isDisk(l loop) bool { return strings.HasPrefix(l.backing, disksDir()+"/") }

// diskLoops are the loop devices that are nodes' disks.
func diskLoops() ([]loop, error) {
	loops, err := listLoops()
	if err != nil {
		return nil, err
	}
	var disks []loop
	for _, l := range loops {
		if isDisk(l) {
			disks = append(disks, l)
		}
	}
	return disks, nil
}

// detachLoops waits until the devices are free: as long as a mount of a node that
// has just ended is being taken apart, the kernel only promises to detach. One that
// another stands on (kubelet binds each raw volume to a device of its own) is free
// when that one is.
func detachLoops(ctx context.Context, loops []loop) error {
	for _, l := range loops {
		_ = detach(ctx, l)
	}
	var errs []error
	for _, l := range loops {
		errs = append(errs, waitFor(ctx, l.device+" to be detached", 20*time.Second, func() error { return detach(ctx, l) }))
	}
	return errors.Join(errs...)
}

func detach(ctx context.Context, l loop) error {
	if !attached(l) {
		return nil
	}
	if _, err := run(ctx, "losetup", "--detach", l.device); err != nil && attached(l) {
		return err
	}
	if attached(l) {
		return errors.New("somebody has it open")
	}
	return nil
}

// attached tells whether the device still stands for the same file. The name of
// the file changes when its filesystem is unmounted, to what is left of the path.
func attached(l loop) bool {
	name, err := os.ReadFile(filepath.Join("/sys/block", filepath.Base(l.device), "loop/backing_file"))
	return err == nil && strings.HasSuffix(l.backing, strings.TrimSpace(string(name)))
}

// mountedOutside collects the filesystems that processes other than the nodes'
// have mounted, in whatever mount namespace but those already seen.
func mountedOutside(seen map[string]bool) (map[uint64]bool, error) {
	entries, err := os.ReadDir("/proc")
	if err != nil {
		return nil, fmt.Errorf("list processes: %w", err)
	}
	mounted := map[uint64]bool{}
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

// readBaseline answers nil when no lab has begun.
func readBaseline() (map[string]bool, error) {
	data, err := os.ReadFile(baselineFile())
	if errors.Is(err, fs.ErrNotExist) {
		return nil, nil
	}
	if err != nil {
		return nil, fmt.Errorf("read the loop devices that were there before: %w", err)
	}
	before := map[string]bool{}
	for _, device := range strings.Fields(string(data)) {
		before[device] = true
	}
	return before, nil
}
