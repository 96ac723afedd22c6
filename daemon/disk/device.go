package disk

import (
	"errors"
	"fmt"
	"io"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/daemon/ceph/luks"
)

// device is a block device opened to be looked at.
type device struct {
	*os.File
	size int64
}

// openDevice opens the node's device for reading, and makes sure that it still
// is the one that the kernel described; openDeviceFor does so for more than reading.
func openDevice(host Host, b block) (*device, error) { return openDeviceFor(host, b, os.O_RDONLY) }

func openDeviceFor(host Host, b block, flags int) (*device, error) {
	file, err := os.OpenFile(b.node(host), flags|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open: %w", err)
	}
	var stat unix.Stat_t
	if err := unix.Fstat(int(file.Fd()), &stat); err != nil {
		return nil, errors.Join(fmt.Errorf("stat %s: %w", file.Name(), err), file.Close())
	}
	number := fmt.Sprintf("%d:%d", unix.Major(stat.Rdev), unix.Minor(stat.Rdev))
	if stat.Mode&unix.S_IFMT != unix.S_IFBLK || number != b.number {
		return nil, errors.Join(fmt.Errorf("%s is not the block device %s", file.Name(), b.number), file.Close())
	}
	return &device{File: file, size: b.size}, nil
}

// read returns what is at an offset, or nothing when that is past the end.
func (d *device) read(offset, length int64) ([]byte, error) {
	length = min(length, d.size-offset)
	if offset < 0 || length <= 0 {
		return nil, nil
	}
	buffer := make([]byte, length)
	if _, err := io.ReadFull(io.NewSectionReader(d, offset, length), buffer); err != nil {
		return nil, fmt.Errorf("read %s at offset %d: %w", d.Name(), offset, err)
	}
	return buffer, nil
}

// label finds the BlueStore label or, where that is missing or unfinished, a
// better copy of it. That of an encrypted device is its LUKS2 header, or the copy of it.
func (d *device) label() (*label, error) {
	found, err := d.encryptedLabel(luks.FirstHeader)
	if found != nil || err != nil {
		return found, err
	}
	if found, err = d.plainLabel(); found != nil || err != nil {
		return found, err
	}
	found, err = d.encryptedLabel(luks.SecondHeader)
	if found != nil && !found.ready {
		found.damaged = "its first LUKS2 header is overwritten, and the second is of an OSD that was not complete"
	}
	return found, err
}

func (d *device) encryptedLabel(position int64) (*label, error) {
	header, err := d.read(position, luks.IdentitySize)
	if err != nil {
		return nil, err
	}
	return encryptedLabel(header), nil
}

func (d *device) plainLabel() (*label, error) {
	var found *label
	for _, position := range labelPositions {
		head, err := d.read(position, labelSize)
		if err != nil {
			return nil, err
		}
		if !hasLabel(head) {
			continue
		}
		if l := parseLabel(head); found == nil || found.uuid == l.uuid && l.complete() {
			found = &l
		}
		if found.complete() {
			break
		}
	}
	return found, nil
}

// lock takes the lock that programs agree on before they change a device, if
// it is free. It ends when the device is closed.
func (d *device) lock(kind int) (bool, error) {
	err := unix.Flock(int(d.Fd()), kind|unix.LOCK_NB)
	if errors.Is(err, unix.EWOULDBLOCK) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("lock %s: %w", d.Name(), err)
	}
	return true, nil
}

// isTaken says whether somebody has opened the device exclusively, as mounts,
// RAID, device mapper and Ceph do.
func isTaken(path string) (bool, error) {
	file, err := os.OpenFile(path, os.O_RDONLY|unix.O_EXCL|unix.O_NONBLOCK|unix.O_CLOEXEC, 0)
	if errors.Is(err, unix.EBUSY) {
		return true, nil
	}
	if err != nil {
		return false, fmt.Errorf("open exclusively: %w", err)
	}
	return false, file.Close()
}
