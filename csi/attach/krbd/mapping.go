package krbd

import (
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// mapping is one image that the kernel has mapped.
type mapping struct {
	id           string // N of /dev/rbdN
	path         string
	volume       volumeid.ID
	major, minor uint32
	size         int64
	readOnly     bool
	client       string
	user         string
}

func (m mapping) device(volumeID string) attach.Device {
	return attach.Device{VolumeID: volumeID, Path: m.path, Major: m.major, Minor: m.minor,
		Size: m.size, ReadOnly: m.readOnly, ClientAddrs: m.client}
}

// find returns the mapping of a volume's image, nil when there is none.
func (a Attacher) find(want volumeid.ID) (*mapping, error) {
	mappings, err := a.mappings()
	if err != nil {
		return nil, err
	}
	for i := range mappings {
		if mappings[i].volume == want {
			return &mappings[i], nil
		}
	}
	return nil, nil
}

// mappings are those that could be volumes: a mapped snapshot has no image name.
func (a Attacher) mappings() ([]mapping, error) {
	all, err := a.mapped()
	return slices.DeleteFunc(all, func(m mapping) bool { return m.volume.Image.Name == "" }), err
}

// mapped is all that the kernel has mapped.
func (a Attacher) mapped() ([]mapping, error) {
	entries, err := os.ReadDir(a.sys("devices"))
	if err != nil {
		return nil, fmt.Errorf("list what the kernel has mapped: %w", err)
	}
	var mappings []mapping
	for _, entry := range entries {
		m, err := a.read(entry.Name())
		if errors.Is(err, fs.ErrNotExist) {
			continue // unmapped while we looked
		}
		if err != nil {
			return nil, fmt.Errorf("look at the mapped device %s: %w", entry.Name(), err)
		}
		mappings = append(mappings, m)
	}
	return mappings, nil
}

// read reads the attributes of one mapped image. A mapped snapshot has no image
// name here: it is nobody's volume.
func (a Attacher) read(id string) (mapping, error) {
	r := attributes{dir: a.sys("devices", id)}
	m := mapping{
		id:     id,
		path:   a.dev(id),
		major:  uint32(r.number("major", 32)),
		minor:  uint32(r.number("minor", 32)),
		size:   r.number("size", 64),
		client: r.text("client_addr"),
		volume: volumeid.ID{
			FSID:  r.text("cluster_fsid"),
			Image: ceph.ImageRef{PoolID: r.number("pool_id", 64), Namespace: r.text("pool_ns"), Name: r.text("name")},
		},
	}
	if r.text("current_snap") != "-" {
		m.volume.Image.Name = ""
	}
	options := lastField(r.text("config_info"))
	for option := range strings.SplitSeq(options, ",") {
		if user, ok := strings.CutPrefix(option, "name="); ok {
			m.user = user
		}
	}
	m.readOnly = strings.Contains(","+options+",", ",ro,") || r.readOnly(m.major, m.minor)
	return m, r.err
}

func lastField(line string) string {
	fields := strings.Fields(line)
	if len(fields) < 2 {
		return ""
	}
	return fields[1]
}

// attributes reads the files of a directory of sysfs; the first error stays.
type attributes struct {
	dir string
	err error
}

func (r *attributes) text(name string) string {
	raw, err := os.ReadFile(filepath.Join(r.dir, name))
	if err != nil && r.err == nil {
		r.err = err
	}
	return strings.TrimSpace(string(raw))
}

func (r *attributes) number(name string, bits int) int64 {
	text := r.text(name)
	if r.err != nil {
		return 0
	}
	n, err := strconv.ParseInt(text, 10, bits)
	if err != nil {
		r.err = fmt.Errorf("%s: %w", name, err)
	}
	return n
}

// readOnly asks the block layer, where it can be asked.
func (r *attributes) readOnly(major, minor uint32) bool {
	raw, err := os.ReadFile(fmt.Sprintf("/sys/dev/block/%d:%d/ro", major, minor))
	return err == nil && strings.TrimSpace(string(raw)) == "1"
}
