package disk

import (
	"fmt"
	"os"
	"path/filepath"

	"golang.org/x/sys/unix"
)

// ClaimDevice is where the pod of an OSD on a PersistentVolumeClaim has its device.
const ClaimDevice = "/dev/cairn-claim"

// readClaim reads what the kernel says of a claim's device. It may be of any kind, a
// logical volume or a mapped image too: whoever provides the claim answers for that.
func readClaim(host Host, path string) (block, error) {
	var stat unix.Stat_t
	if err := unix.Stat(path, &stat); err != nil {
		return block{}, fmt.Errorf("find device %s: %w", path, err)
	}
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK {
		return block{}, fmt.Errorf("find device %s: it is no block device", path)
	}
	number := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	target, err := os.Readlink(filepath.Join(host.Sys, "dev", "block", number))
	if err != nil {
		return block{}, fmt.Errorf("find device %s: %w", path, err)
	}
	name := filepath.Base(target)
	if _, err := os.Stat(filepath.Join(host.Sys, "dev", "block", number, "partition")); err == nil {
		return block{}, fmt.Errorf("find device %s: %s is a partition, and Cairn takes whole devices only", path, name)
	}
	b, err := readAttributes(host, name)
	if err != nil {
		return block{}, err
	}
	b.path, b.part = path, ""
	return b, nil
}

// node is the path by which a device is opened.
func (b block) node(host Host) string {
	if b.path != "" {
		return b.path
	}
	return host.node(b.name)
}
