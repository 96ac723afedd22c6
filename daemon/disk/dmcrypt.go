package disk

import (
	"bytes"
	"fmt"
	"os"
	"path"
	"path/filepath"
	"slices"
	"strings"
	"unsafe"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// Kernel says where to look for what the node's kernel can do.
type Kernel struct {
	Proc string // procfs
	Root string // the root of the node's own files
	// Targets lists the kinds of mappings that device mapper knows now.
	Targets func() ([]string, error)
}

// ThisKernel is the node's, seen from a container that shares its process IDs.
func ThisKernel() Kernel { return Kernel{Proc: "/proc", Root: "/proc/1/root", Targets: mapperTargets} }

// Encryption says whether the node can encrypt devices: its kernel has dm-crypt, or a module
// of that name, which it loads when the first mapping is made. It looks, and loads nothing.
func (k Kernel) Encryption() *v1alpha1.NodeEncryption {
	raw, _ := os.ReadFile(filepath.Join(k.Proc, "sys/kernel/osrelease"))
	release := strings.TrimSpace(string(raw))
	if k.hasModule(release) {
		return &v1alpha1.NodeEncryption{Available: true}
	}
	no := &v1alpha1.NodeEncryption{Message: fmt.Sprintf("Linux %s has no dm-crypt, neither in the kernel nor as a module below /lib/modules/%[1]s", release)}
	misc, err := os.ReadFile(filepath.Join(k.Proc, "misc"))
	if err != nil || !slices.Contains(strings.Fields(string(misc)), "device-mapper") {
		return no // to ask would have the kernel look for a module
	}
	targets, err := k.Targets()
	if err != nil {
		no.Message += fmt.Sprintf(" (%v)", err)
	}
	no.Available = slices.Contains(targets, "crypt")
	if no.Available {
		no.Message = ""
	}
	return no
}

// hasModule reads the lists of modules that depmod keeps: of those built in, and of others.
func (k Kernel) hasModule(release string) bool {
	for _, list := range []string{"modules.builtin", "modules.dep"} {
		text, err := os.ReadFile(filepath.Join(k.Root, "lib/modules", release, list))
		if err != nil {
			continue
		}
		for line := range strings.Lines(string(text)) {
			file, _, _ := strings.Cut(strings.TrimSpace(line), ":")
			if name, _, _ := strings.Cut(path.Base(file), "."); name == "dm-crypt" || name == "dm_crypt" {
				return true
			}
		}
	}
	return false
}

// mapperTargets asks device mapper for its list, which changes nothing.
func mapperTargets() ([]string, error) {
	control, err := os.OpenFile("/dev/mapper/control", os.O_RDWR, 0)
	if err != nil {
		return nil, fmt.Errorf("ask device mapper: %w", err)
	}
	defer func() { _ = control.Close() }()
	buffer := make([]byte, 64<<10)
	request := (*unix.DmIoctl)(unsafe.Pointer(&buffer[0]))
	request.Version = [3]uint32{unix.DM_VERSION_MAJOR, 0, 0}
	request.Data_size, request.Data_start = uint32(len(buffer)), uint32(unsafe.Sizeof(*request))
	if _, _, errno := unix.Syscall(unix.SYS_IOCTL, control.Fd(), unix.DM_LIST_VERSIONS, uintptr(unsafe.Pointer(request))); errno != 0 {
		return nil, fmt.Errorf("ask device mapper: %w", errno)
	}
	return parseTargets(buffer[min(int(request.Data_start), len(buffer)):]), nil
}

// parseTargets reads a list of structures, each with the offset of the next.
func parseTargets(data []byte) (found []string) {
	const head = int(unsafe.Sizeof(unix.DmTargetVersions{}))
	for len(data) > head {
		name, _, _ := bytes.Cut(data[head:], []byte{0})
		found = append(found, string(name))
		next := (*unix.DmTargetVersions)(unsafe.Pointer(&data[0])).Next
		if next == 0 || int(next) > len(data) {
			break
		}
		data = data[next:]
	}
	return found
}
