package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
)

const sectorSize = 512

// block is what the kernel says about a whole block device.
type block struct {
	name       string // sdb
	path       string // of a claim's device, in the OSD's pod; else empty
	number     string // 8:16
	sequence   string // counts what has been behind the name, where the kernel has it
	size       int64
	readOnly   bool
	rotational bool
	model      string
	serial     string
	part       string // of what the device is a view, for instance a RAID; else empty
	holders    []string
	partitions []partition
	links      []string // below /dev/disk: by-id/wwn-0x5000
}

type partition struct {
	name    string
	number  string
	holders []string
}

// virtual are the kinds of devices that are no disks of the node.
var virtual = []string{"ram", "zram", "sr", "fd", "rbd"}

// listBlocks finds the node's disks, by kernel name.
func listBlocks(host Host) ([]block, error) {
	entries, err := os.ReadDir(host.block())
	if err != nil {
		return nil, fmt.Errorf("list block devices: %w", err)
	}
	links, err := readLinks(host)
	if err != nil {
		return nil, err
	}
	var blocks []block
	for _, entry := range entries {
		if isVirtual(entry.Name()) || isInner(host, entry.Name()) {
			continue
		}
		b, err := readBlock(host, entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // gone meanwhile, or it has no device node
		}
		if err != nil {
			return nil, err
		}
		b.links = links[b.name]
		if b.counts() && attribute(host, b.name, "hidden") != "1" {
			blocks = append(blocks, b)
		}
	}
	slices.SortFunc(blocks, func(a, b block) int { return strings.Compare(a.name, b.name) })
	return blocks, nil
}

// findBlock reads one disk.
func findBlock(host Host, name string) (block, error) {
	b, err := readBlock(host, name)
	if err != nil {
		return block{}, err
	}
	links, err := readLinks(host)
	if err != nil {
		return block{}, err
	}
	b.links = links[name]
	if isVirtual(name) || !b.counts() {
		return block{}, fmt.Errorf("read block device %s: it is not a disk", name)
	}
	return b, nil
}

func isVirtual(name string) bool {
	kind := strings.TrimRight(name, "0123456789")
	return slices.Contains(virtual, kind)
}

// counts says whether the device is one of the node's disks. An empty device
// has no medium or no backing; a loop device is somebody's tool unless a stable
// name declares it a disk.
func (b block) counts() bool {
	return b.size > 0 && (!strings.HasPrefix(b.name, "loop") || hasLinkByID(b.links))
}

func readBlock(host Host, name string) (block, error) {
	if _, err := os.Stat(host.node(name)); err != nil {
		return block{}, fmt.Errorf("read block device %s: %w", name, err)
	}
	return readAttributes(host, name)
}

// readAttributes reads what sysfs says of a device.
func readAttributes(host Host, name string) (block, error) {
	sectors, err := os.ReadFile(host.block(name, "size"))
	if err != nil {
		return block{}, fmt.Errorf("read block device %s: %w", name, err)
	}
	size, err := strconv.ParseInt(strings.TrimSpace(string(sectors)), 10, 64)
	if err != nil {
		return block{}, fmt.Errorf("read the size of block device %s: %w", name, err)
	}
	b := block{
		name:       name,
		number:     attribute(host, name, "dev"),
		sequence:   attribute(host, name, "diskseq"),
		size:       size * sectorSize,
		readOnly:   attribute(host, name, "ro") == "1",
		rotational: attribute(host, name, "queue/rotational") == "1",
		model:      printable(attribute(host, name, "device/model"), maxText),
		serial:     readSerial(host, name),
		part:       readPart(host, name),
		holders:    names(host.block(name, "holders")),
	}
	b.partitions = readPartitions(host, name)
	return b, nil
}

// attribute reads a file of a device in sysfs; what is not there is empty.
func attribute(host Host, name, file string) string {
	text, err := os.ReadFile(host.block(name, file))
	if err != nil {
		return ""
	}
	return strings.TrimSpace(string(text))
}

func readSerial(host Host, name string) string {
	for _, file := range []string{"serial", "device/serial"} {
		if serial := printable(attribute(host, name, file), maxText); serial != "" {
			return serial
		}
	}
	const header = 4 // of a SCSI vital product data page
	if page := attribute(host, name, "device/vpd_pg80"); len(page) > header {
		return printable(page[header:], maxText)
	}
	return ""
}

// readPart tells views of other devices from disks. Multipath is a disk: its
// paths are not, the kernel shows the multipath device as their holder.
func readPart(host Host, name string) string {
	if strings.HasPrefix(name, "md") {
		return "a RAID array"
	}
	uuid := attribute(host, name, "dm/uuid")
	if !strings.HasPrefix(name, "dm-") || strings.HasPrefix(uuid, "mpath-") {
		return ""
	}
	kind, _, _ := strings.Cut(uuid, "-")
	return strings.TrimSpace("a device-mapper device " + printable(kind, maxText))
}

func readPartitions(host Host, name string) []partition {
	var partitions []partition
	for _, child := range names(host.block(name)) {
		if attribute(host, name, filepath.Join(child, "partition")) == "" {
			continue
		}
		partitions = append(partitions, partition{
			name:    child,
			number:  attribute(host, name, filepath.Join(child, "dev")),
			holders: names(host.block(name, child, "holders")),
		})
	}
	return partitions
}

// names lists a directory; one that is not there is empty.
func names(dir string) []string {
	entries, err := os.ReadDir(dir)
	if err != nil {
		return nil
	}
	var list []string
	for _, entry := range entries {
		list = append(list, entry.Name())
	}
	return list
}
