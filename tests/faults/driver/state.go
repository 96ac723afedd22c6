package driver

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/tests/faults/state"
)

// State is what is in the pool and on the node, without the case's name if one is given.
func (d *Driver) State(ctx context.Context, name string) (string, error) {
	lines, err := state.Cluster(ctx, d.Cluster, Pool)
	if err != nil {
		return "", err
	}
	node, err := d.node()
	if err != nil {
		return "", err
	}
	lines = append(lines, node...)
	slices.Sort(lines)
	text := strings.Join(lines, "\n")
	if name != "" {
		text = strings.ReplaceAll(text, name, "case")
	}
	return text, nil
}

// node has the mounts, loop devices and records of the node.
func (d *Driver) node() (lines []string, err error) {
	info, err := os.ReadFile("/proc/self/mountinfo")
	if err != nil {
		return nil, err
	}
	for line := range strings.Lines(string(info)) {
		fields := strings.Fields(line)
		if strings.HasPrefix(fields[4], filepath.Join(d.Dir, "kubelet")+"/") {
			kind := fields[slices.Index(fields, "-")+1]
			lines = append(lines, fmt.Sprintf("mounted %s at %s", kind, strings.TrimPrefix(fields[4], d.Dir)))
		}
	}
	devices, err := filepath.Glob("/sys/block/loop*/loop/backing_file")
	if err != nil {
		return nil, err
	}
	for _, device := range devices {
		if file, err := os.ReadFile(device); err == nil && strings.HasPrefix(string(file), d.Dir) {
			lines = append(lines, "a loop device")
		}
	}
	records, err := journal.Journal{Dir: filepath.Join(d.Dir, "journal")}.All()
	for _, r := range records {
		lines = append(lines, fmt.Sprintf("record %s block=%t targets=%d unhealthy=%q", r.Step, r.Block, len(r.Targets), r.Unhealthy))
	}
	return lines, err
}

// Left returns what is left of all cases in the cluster and on the node: in the
// pool down to the single object.
func (d *Driver) Left(ctx context.Context) (string, error) {
	text, err := d.State(ctx, "")
	left := []string{text}
	objects, listErr := d.rados(ctx, "ls", "--all")
	for _, object := range objects {
		name := strings.TrimSpace(object)
		switch name {
		case "rbd_info":
		case "rbd_directory", "rbd_children", "rbd_trash", "rbd_group_directory":
			keys, err := d.rados(ctx, "listomapkeys", name)
			listErr = errors.Join(listErr, err)
			for _, key := range keys {
				left = append(left, name+" has "+key)
			}
		default:
			clones, err := d.rados(ctx, "listsnaps", name)
			listErr = errors.Join(listErr, err)
			left = append(left, "object "+name+": "+strings.Join(clones, " | "))
		}
	}
	err = errors.Join(err, listErr, filepath.WalkDir(d.Dir, func(path string, entry fs.DirEntry, err error) error {
		if err == nil && (strings.HasSuffix(path, ".tmp") || entry.IsDir() && strings.HasSuffix(path, "/target")) {
			left = append(left, path)
		}
		return err
	}))
	return strings.Trim(strings.Join(left, "\n"), "\n"), err
}

// rados asks the pool with Ceph's own program, as one who does not trust the
// driver's door to Ceph.
func (d *Driver) rados(ctx context.Context, args ...string) ([]string, error) {
	out, err := exec.CommandContext(ctx, "rados", append([]string{"-c", d.Ceph.ConfFile(), "-p", Pool}, args...)...).Output()
	if err != nil {
		return nil, fmt.Errorf("rados %v: %w", args, err)
	}
	return slices.DeleteFunc(strings.Split(string(out), "\n"), func(s string) bool { return s == "" }), nil
}
