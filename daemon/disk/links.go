package disk

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"regexp"
	"slices"
	"strings"
)

// readLinks finds the names below /dev/disk of each device, by kernel name.
func readLinks(host Host) (map[string][]string, error) {
	dev, err := filepath.EvalSymlinks(host.Dev)
	if err != nil {
		return nil, fmt.Errorf("list the names of devices: %w", err)
	}
	dirs, err := os.ReadDir(filepath.Join(dev, "disk"))
	if err != nil && !errors.Is(err, fs.ErrNotExist) {
		return nil, fmt.Errorf("list the names of devices: %w", err)
	}
	links := map[string][]string{}
	for _, dir := range dirs {
		if strings.HasPrefix(dir.Name(), "by-") {
			addLinks(links, dev, dir.Name())
		}
	}
	return links, nil
}

// addLinks adds the links of one directory. Those that lead nowhere, out of
// /dev, or have a name that no udev rule makes, are left out.
func addLinks(links map[string][]string, dev, dir string) {
	for _, name := range names(filepath.Join(dev, "disk", dir)) {
		target, err := filepath.EvalSymlinks(filepath.Join(dev, "disk", dir, name))
		if err != nil || filepath.Dir(target) != dev || !linkName.MatchString(name) {
			continue
		}
		kernel := filepath.Base(target)
		links[kernel] = append(links[kernel], dir+"/"+name)
	}
}

// linkName is what StorageCluster takes as a device's name.
var linkName = regexp.MustCompile(`^[A-Za-z0-9+_.:@=-]{1,200}$`)

// preferred are the kinds of names below by-id, best first: those that the
// device itself bears, world-wide unique ones before model and serial number.
var preferred = []string{"wwn-", "nvme-eui.", "nvme-nguid.", "nvme-", "ata-", "scsi-", "virtio-", "mmc-", "usb-", "dm-uuid-mpath-", ""}

// borrowed are names below by-id that come from what is on the device: they
// vanish when it is wiped.
var borrowed = []string{"lvm-", "md-"}

// stableName chooses a device's name: the best below by-id, else its path
// below by-path, else none.
func stableName(links []string) string {
	byID := inDir(links, "by-id/")
	for _, kind := range preferred {
		for _, name := range byID {
			if strings.HasPrefix(name, kind) && !isBorrowed(name) {
				return name
			}
		}
	}
	if byPath := inDir(links, "by-path/"); len(byPath) > 0 {
		return "/dev/disk/by-path/" + byPath[0]
	}
	return ""
}

func hasLinkByID(links []string) bool { return len(inDir(links, "by-id/")) > 0 }

func isBorrowed(name string) bool {
	return slices.ContainsFunc(borrowed, func(kind string) bool { return strings.HasPrefix(name, kind) })
}

// inDir returns the sorted names of the links in a directory.
func inDir(links []string, dir string) []string {
	var found []string
	for _, link := range links {
		if name, ok := strings.CutPrefix(link, dir); ok {
			found = append(found, name)
		}
	}
	slices.Sort(found)
	return found
}
