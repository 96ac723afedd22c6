package disk

import "path/filepath"

// Host says where the node's devices and tables are.
type Host struct {
	Sys    string // sysfs
	Dev    string // the device nodes, with disk/by-* below
	Mounts string // mountinfo of the node's first process
	Swaps  string // the swap areas
}

// ThisHost is the node itself. Seen from a container it is the node when the
// container has the node's /dev and shares its process IDs.
func ThisHost() Host {
	return Host{Sys: "/sys", Dev: "/dev", Mounts: "/proc/1/mountinfo", Swaps: "/proc/swaps"}
}

func (h Host) node(name string) string { return filepath.Join(h.Dev, name) }

func (h Host) block(parts ...string) string {
	return filepath.Join(append([]string{h.Sys, "block"}, parts...)...)
}
