package crash

import (
	"context"
	"encoding/json"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/tests/faults/state"
)

// state is all that there is in the world, as lines that two worlds have alike
// when the same was done in them.
func (w *world) state(ctx context.Context) (string, error) {
	lines, err := state.Cluster(ctx, w.direct, pool)
	if err != nil {
		return "", err
	}
	for entity, caps := range w.cluster.Users() {
		lines = append(lines, fmt.Sprintf("user %s %v", entity, caps))
	}
	node, err := w.nodeState(ctx)
	if err != nil {
		return "", err
	}
	files, err := w.files()
	if err != nil {
		return "", err
	}
	lines = slices.Concat(lines, node, files)
	return strings.Join(lines, "\n"), nil
}

// nodeState has the node's devices and mounts. Devices go by their volumes.
func (w *world) nodeState(ctx context.Context) ([]string, error) {
	devices, err := w.attacher.List(ctx)
	if err != nil {
		return nil, err
	}
	names := map[string]string{}
	var lines []string
	for _, d := range devices {
		v := w.attacher.Volume(d.VolumeID)
		names[d.Path] = "device of " + v.Image.Name
		lines = append(lines, fmt.Sprintf("attached %s size=%d read-only=%t exclusive=%t", v.Image.Name, d.Size, v.ReadOnly, v.Exclusive))
	}
	mounted := map[string]bool{}
	mounts, err := w.host.List()
	if err != nil {
		return nil, err
	}
	for _, m := range mounts {
		mounted[m.Path] = true
		device := names[m.Device]
		if device == "" {
			device = "something else"
		}
		lines = append(lines, fmt.Sprintf("mounted %s at %s as %q with %v", device, w.relative(m.Path), m.Type, m.Opts))
	}
	for _, path := range slices.Compact(slices.Sorted(slices.Values(w.host.Grown))) {
		if mounted[path] {
			lines = append(lines, "filesystem grown at "+w.relative(path))
		}
	}
	slices.Sort(lines)
	return lines, nil
}

func (w *world) relative(path string) string { return strings.TrimPrefix(path, w.dir+"/") }

// files has the node's records and what is at kubelet's paths. The directories
// that kubelet itself makes do not count.
func (w *world) files() (lines []string, err error) {
	err = filepath.WalkDir(w.dir, func(path string, d fs.DirEntry, err error) error {
		name := w.relative(path)
		switch {
		case err != nil || d.Type() == fs.ModeSymlink:
			return err
		case strings.HasSuffix(name, ".json"):
			line, err := record(path)
			lines = append(lines, line)
			return err
		case !d.IsDir() || strings.HasSuffix(name, "target"):
			lines = append(lines, "at "+name+" "+d.Type().String())
		}
		return nil
	})
	return lines, err
}

func record(path string) (string, error) {
	raw, err := os.ReadFile(path)
	if err != nil {
		return "", err
	}
	var r journal.Record
	if err := json.Unmarshal(raw, &r); err != nil {
		return "", err
	}
	id, err := volumeid.Parse(r.VolumeID)
	if err != nil {
		return "", err
	}
	attached := r.Device.Path != ""
	sameBoot := r.BootID == durable.BootID()
	r.VolumeID, r.BootID, r.Device.VolumeID, r.Device.Path, r.Device.Minor, r.Device.ClientAddrs = "", "", "", "", 0, ""
	r.StagingPath = filepath.Base(r.StagingPath)
	for i := range r.Targets {
		r.Targets[i] = filepath.Base(r.Targets[i])
	}
	slices.Sort(r.Targets)
	return fmt.Sprintf("record of %s attached=%t this-boot=%t %+v", id.Image.Name, attached, sameBoot, r), nil
}
