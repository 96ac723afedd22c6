// Package capability reads CSI volume capabilities: what a volume is wanted as,
// by whom, and what of it the driver can do.
package capability

import (
	"fmt"
	"regexp"
	"strings"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/fault"
)

// Filesystems that a volume can be formatted with; the first is the default.
var Filesystems = []string{"ext4", "xfs", "btrfs"}

// Want is what one capability asks for.
type Want struct {
	// Block: the device itself, not a filesystem on it.
	Block bool
	// Filesystem and mount options, unless Block.
	Filesystem string
	Options    []string
	// ReadOnly: nobody writes.
	ReadOnly bool
	// Shared: more than one node may have the volume at once.
	Shared bool
	// OnePod: not even two pods of the node may have the volume at once.
	OnePod bool
}

// Exclusive: only one node may have the volume, and it may write.
func (w Want) Exclusive() bool { return !w.Shared && !w.ReadOnly }

type mode = csi.VolumeCapability_AccessMode_Mode

type access struct{ readOnly, shared, onePod, blockOnly bool }

var modes = map[mode]access{
	csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER:        {},
	csi.VolumeCapability_AccessMode_SINGLE_NODE_SINGLE_WRITER: {onePod: true},
	csi.VolumeCapability_AccessMode_SINGLE_NODE_MULTI_WRITER:  {},
	csi.VolumeCapability_AccessMode_SINGLE_NODE_READER_ONLY:   {readOnly: true},
	csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY:    {readOnly: true, shared: true},
	csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER:   {shared: true, blockOnly: true},
}

// Parse reads one capability; field is where in the request it stands.
func Parse(c *csi.VolumeCapability, field string) (Want, error) {
	if c == nil {
		return Want{}, fault.Field(fault.Invalid, field, "is missing")
	}
	var want Want
	switch t := c.GetAccessType().(type) {
	case *csi.VolumeCapability_Block:
		want.Block = true
	case *csi.VolumeCapability_Mount:
		if err := want.mount(t.Mount, field+".mount"); err != nil {
			return Want{}, err
		}
	default:
		return Want{}, fault.Field(fault.Invalid, field+".access_type", "is missing: want block or mount")
	}
	return want, want.access(c.GetAccessMode(), field+".access_mode")
}

func (w *Want) mount(m *csi.VolumeCapability_MountVolume, field string) error {
	w.Filesystem = m.GetFsType()
	if w.Filesystem == "" {
		w.Filesystem = Filesystems[0]
	}
	if !known(w.Filesystem) {
		return fault.Field(fault.Invalid, field+".fs_type", "%q is not one of %s", w.Filesystem, strings.Join(Filesystems, ", "))
	}
	if m.GetVolumeMountGroup() != "" {
		return fault.Field(fault.Invalid, field+".volume_mount_group", "is not supported")
	}
	for _, option := range m.GetMountFlags() {
		if err := checkOption(option); err != nil {
			return fault.Field(fault.Invalid, field+".mount_flags", "%w", err)
		}
	}
	w.Options = m.GetMountFlags()
	return nil
}

func known(filesystem string) bool {
	for _, f := range Filesystems {
		if f == filesystem {
			return true
		}
	}
	return false
}

// selinux are the options that label a whole filesystem. Kubelet quotes the
// label, since there may be a comma in it.
var selinux = regexp.MustCompile(`^(context|fscontext|defcontext|rootcontext)=("[A-Za-z0-9_:.,-]+"|[A-Za-z0-9_:.-]+)$`)

// checkOption keeps out the options that would make the mount something other
// than the volume's filesystem, or that are two in one.
func checkOption(option string) error {
	if selinux.MatchString(option) {
		return nil
	}
	name, _, _ := strings.Cut(option, "=")
	switch name {
	case "context", "fscontext", "defcontext", "rootcontext":
		return fmt.Errorf("option %q does not name an SELinux label", option)
	case "", "bind", "rbind", "move", "remount", "loop", "offset", "sizelimit", "suid", "dev", "rw":
		return fmt.Errorf("option %q is not allowed", option)
	}
	if strings.ContainsAny(option, ", \t\n\\") || strings.HasPrefix(option, "-") || strings.HasPrefix(option, "x-") || strings.HasPrefix(option, "X-") {
		return fmt.Errorf("option %q is not allowed", option)
	}
	return nil
}

func (w *Want) access(m *csi.VolumeCapability_AccessMode, field string) error {
	if m == nil || m.GetMode() == csi.VolumeCapability_AccessMode_UNKNOWN {
		return fault.Field(fault.Invalid, field, "is missing")
	}
	a, ok := modes[m.GetMode()]
	switch {
	case !ok:
		return fault.Field(fault.Invalid, field, "%s is not supported", m.GetMode())
	case a.blockOnly && !w.Block:
		return fault.Field(fault.Invalid, field, "%s is for raw block volumes only: a filesystem on a block volume has one writer node", m.GetMode())
	}
	w.ReadOnly, w.Shared, w.OnePod = a.readOnly, a.shared, a.onePod
	return nil
}

// ParseAll reads the capabilities of a request.
func ParseAll(list []*csi.VolumeCapability) ([]Want, error) {
	if len(list) == 0 {
		return nil, fault.Field(fault.Invalid, "volume_capabilities", "is empty")
	}
	wants := make([]Want, 0, len(list))
	for i, c := range list {
		want, err := Parse(c, fmt.Sprintf("volume_capabilities[%d]", i))
		if err != nil {
			return nil, err
		}
		wants = append(wants, want)
	}
	return wants, nil
}
