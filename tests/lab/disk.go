package lab

import (
	"context"
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"sort"
	"strconv"
	"strings"
)

// Disk is a loop device that a node has for a disk.
type Disk struct {
	Name   string // lab-node1-disk1
	Node   string
	Device string // /dev/loop3
	Size   int64
	Failed bool
}

// ByID is the disk's stable name, inside its node.
func (d Disk) ByID() string { return "/dev/disk/by-id/" + d.Name }

func diskName(node string, number int) string { return fmt.Sprintf("lab-%s-disk%d", node, number) }

func diskFile(name string) string { return filepath.Join(disksDir(), name+".img") }

// parseDiskFile finds name and node in the path of a disk's backing file.
func parseDiskFile(path string) (name, node string, number int, ok bool) {
	name, ok = strings.CutSuffix(filepath.Base(path), ".img")
	if !ok || filepath.Dir(path) != disksDir() {
		return "", "", 0, false
	}
	rest, ok := strings.CutPrefix(name, "lab-")
	if !ok {
		return "", "", 0, false
	}
	node, digits, ok := strings.Cut(rest, "-disk")
	if !ok {
		return "", "", 0, false
	}
	number, err := strconv.Atoi(digits)
	return name, node, number, err == nil
}

// makeDisk makes the sparse file and attaches the loop device.
func makeDisk(ctx context.Context, name string, size int64) error {
	file, err := os.OpenFile(diskFile(name), os.O_CREATE|os.O_EXCL|os.O_RDWR, 0o600)
	if err != nil {
		return fmt.Errorf("make disk %s: %w", name, err)
	}
	err = errors.Join(file.Truncate(size), file.Close())
	if err != nil {
		return fmt.Errorf("make disk %s: %w", name, err)
	}
	if _, err := run(ctx, "losetup", "--find", "--direct-io=on", diskFile(name)); err != nil {
		return fmt.Errorf("make disk %s: %w", name, err)
	}
	return nil
}

// Disks lists the disks of all nodes.
func Disks() ([]Disk, error) {
	loops, err := listLoops()
	if err != nil {
		return nil, err
	}
	var disks []Disk
	for _, loop := range loops {
		if name, node, _, ok := parseDiskFile(loop.backing); ok {
			disk := Disk{Name: name, Node: node, Device: loop.device, Size: loop.size}
			if info, err := os.Stat(diskFile(name)); err == nil {
				disk.Failed = info.Size() < loop.size // writes under way may have made it longer again
			}
			disks = append(disks, disk)
		}
	}
	sort.Slice(disks, func(i, j int) bool { return disks[i].Name < disks[j].Name })
	return disks, nil
}

// Disks lists the node's disks.
func (n *Node) Disks() ([]Disk, error) {
	all, err := Disks()
	if err != nil {
		return nil, err
	}
	var own []Disk
	for _, disk := range all {
		if disk.Node == n.Name {
			own = append(own, disk)
		}
	}
	return own, nil
}

// AddDisk gives a running node one more disk and returns its stable name.
func AddDisk(ctx context.Context, node string, size int64) (string, error) {
	unlock, err := lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	n, err := find(node)
	if err != nil {
		return "", err
	}
	if size < minDiskSize {
		return "", fmt.Errorf("size: %d bytes is less than 512Mi", size)
	}
	name, err := n.nextDisk()
	if err != nil {
		return "", err
	}
	if err := makeDisk(ctx, name, size); err != nil {
		return "", err
	}
	if _, ok := n.initPid(); !ok {
		return Disk{Name: name}.ByID(), nil // the node finds it when it starts
	}
	return Disk{Name: name}.ByID(), n.linkDisks(ctx)
}

// nextDisk is a name that none of the node's disks has.
func (n *Node) nextDisk() (string, error) {
	disks, err := n.Disks()
	if err != nil {
		return "", err
	}
	last := 0
	for _, disk := range disks {
		if _, _, number, ok := parseDiskFile(diskFile(disk.Name)); ok {
			last = max(last, number)
		}
	}
	return diskName(n.Name, last+1), nil
}

// MoveDisk puts a disk of a node that does not run into a running node, and returns
// its stable name there.
func MoveDisk(ctx context.Context, disk, node string) (string, error) {
	unlock, err := lock()
	if err != nil {
		return "", err
	}
	defer unlock()
	moved, err := findDisk(disk)
	if err != nil {
		return "", err
	}
	if alive(moved.Node) {
		return "", fmt.Errorf("disk %s: node %s runs", moved.Name, moved.Node)
	}
	n, err := find(node)
	if err != nil {
		return "", err
	}
	name, err := n.nextDisk()
	if err != nil {
		return "", err
	}
	// The loop device knows its file by whatever name that has.
	if err := os.Rename(diskFile(moved.Name), diskFile(name)); err != nil {
		return "", fmt.Errorf("move disk %s: %w", moved.Name, err)
	}
	return Disk{Name: name}.ByID(), n.linkDisks(ctx)
}

// linkDisks makes the stable names of the node's disks in the node's /dev.
func (n *Node) linkDisks(ctx context.Context) error {
	disks, err := n.Disks()
	if err != nil {
		return err
	}
	for _, disk := range disks {
		target := "../../" + filepath.Base(disk.Device)
		if _, err := n.Exec(ctx, "ln", "-sfn", target, disk.ByID()); err != nil {
			return fmt.Errorf("name disk %s: %w", disk.Name, err)
		}
	}
	return nil
}

// FailDisk makes a disk fail for good: of whoever has it open, every later read
// and write is an I/O error, and what was on it is gone. The kernels that the lab
// runs on lack the device mapper and its error target; instead the file behind the
// disk becomes empty, so that reads fail, and immutable, so that writes do.
// The disk is named as in /dev/disk/by-id, or as NODE/disk1.
func FailDisk(ctx context.Context, disk string) error {
	candidate, err := findDisk(disk)
	if err != nil || candidate.Failed {
		return err
	}
	if err := os.Truncate(diskFile(candidate.Name), 0); err != nil {
		return fmt.Errorf("fail disk %s: %w", candidate.Name, err)
	}
	if _, err := run(ctx, "chattr", "+i", diskFile(candidate.Name)); err != nil {
		return fmt.Errorf("fail disk %s: %w", candidate.Name, err)
	}
	return nil
}

// RenewDisk puts a blank disk in the place of one that failed.
func RenewDisk(ctx context.Context, disk string) error {
	candidate, err := findDisk(disk)
	if err != nil || !candidate.Failed {
		return err
	}
	for _, command := range [][]string{
		{"chattr", "-i", diskFile(candidate.Name)},
		{"truncate", "-s", strconv.FormatInt(candidate.Size, 10), diskFile(candidate.Name)},
		{"blockdev", "--flushbufs", candidate.Device},
	} {
		if _, err := run(ctx, command[0], command[1:]...); err != nil {
			return fmt.Errorf("renew disk %s: %w", candidate.Name, err)
		}
	}
	return nil
}

// GrowDisk makes a disk larger, as an array or a hypervisor does with a volume in use.
func GrowDisk(ctx context.Context, disk string, size int64) error {
	candidate, err := findDisk(disk)
	if err != nil || candidate.Size >= size {
		return err
	}
	if err := os.Truncate(diskFile(candidate.Name), size); err != nil {
		return fmt.Errorf("grow disk %s: %w", candidate.Name, err)
	}
	if _, err := run(ctx, "losetup", "--set-capacity", candidate.Device); err != nil {
		return fmt.Errorf("grow disk %s: %w", candidate.Name, err)
	}
	return nil
}

func findDisk(disk string) (Disk, error) {
	disks, err := Disks()
	if err != nil {
		return Disk{}, err
	}
	for _, candidate := range disks {
		if candidate.Name == diskNameOf(disk) {
			return candidate, nil
		}
	}
	return Disk{}, fmt.Errorf("no disk %q: see lab status", disk)
}

// diskNameOf completes the short ways to name a disk.
func diskNameOf(disk string) string {
	name := strings.TrimPrefix(disk, "/dev/disk/by-id/")
	name = strings.ReplaceAll(name, "/", "-")
	return "lab-" + strings.TrimPrefix(name, "lab-")
}

// releaseFailedDisks makes the files of failed disks removable again.
func releaseFailedDisks(ctx context.Context) error {
	files, err := filepath.Glob(diskFile("lab-*"))
	if err != nil || len(files) == 0 {
		return err
	}
	_, err = run(ctx, "chattr", append([]string{"-i"}, files...)...)
	return err
}
