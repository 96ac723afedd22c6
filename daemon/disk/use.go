package disk

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

// uses is what the node does with its devices.
type uses struct {
	mounts map[string]string // device number or /dev path -> mount point
	swaps  map[string]bool   // kernel name
}

func readUses(host Host) (uses, error) {
	mountinfo, err := os.ReadFile(host.Mounts)
	if err != nil {
		return uses{}, fmt.Errorf("list mounts: %w", err)
	}
	swaps, err := os.ReadFile(host.Swaps)
	if err != nil && !os.IsNotExist(err) {
		return uses{}, fmt.Errorf("list swap areas: %w", err)
	}
	return uses{mounts: parseMounts(string(mountinfo)), swaps: parseSwaps(string(swaps))}, nil
}

// parseMounts reads mountinfo: "36 35 98:0 /root /mnt rw - ext4 /dev/sda rw".
// Filesystems on several devices have a number of their own: their source
// names one of the devices.
func parseMounts(text string) map[string]string {
	mounts := map[string]string{}
	for line := range strings.Lines(text) {
		before, after, ok := strings.Cut(line, " - ")
		fields, source := strings.Fields(before), strings.Fields(after)
		if !ok || len(fields) < 5 || len(source) < 2 {
			continue
		}
		for _, key := range []string{fields[2], source[1]} {
			if _, seen := mounts[key]; !seen {
				mounts[key] = fields[4]
			}
		}
	}
	return mounts
}

func parseSwaps(text string) map[string]bool {
	swaps := map[string]bool{}
	for line := range strings.Lines(text) {
		if path, _, _ := strings.Cut(line, " "); strings.HasPrefix(path, "/dev/") {
			swaps[filepath.Base(path)] = true
		}
	}
	return swaps
}

// of says how a device is used, or nothing.
func (u uses) of(b block) string {
	if use := u.one(b.name, b.number, b.holders); use != "" {
		return "the device " + use
	}
	for _, p := range b.partitions {
		if use := u.one(p.name, p.number, p.holders); use != "" {
			return "its partition " + p.name + " " + use
		}
	}
	if b.part != "" {
		return "the device is " + b.part + ", and Cairn takes whole disks only"
	}
	return ""
}

func (u uses) one(name, number string, holders []string) string {
	for _, key := range []string{number, "/dev/" + name} {
		if point, ok := u.mounts[key]; ok {
			return "is mounted at " + printable(point, maxText)
		}
	}
	if u.swaps[name] {
		return "is used as swap"
	}
	if len(holders) > 0 {
		return "is held by " + printable(strings.Join(holders, ", "), maxText)
	}
	return ""
}
