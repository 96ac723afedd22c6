// Package krbd attaches images with the kernel's RBD client, through sysfs.
package krbd

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"

	"golang.org/x/sys/unix"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
)

// Attacher attaches through the kernel.
type Attacher struct {
	// Sys is the RBD bus in sysfs, Dev the directory of device nodes; empty
	// means the real ones.
	Sys, Dev string
	// Cgroups is where cgroup v2 is mounted; empty means the real one.
	Cgroups string
	// Clusters tell who else has an image open, and its limits.
	Clusters Clusters
}

// LoadModule asks for the kernel's rbd module; that there is none shows in the probe.
func LoadModule(ctx context.Context) { _ = exec.CommandContext(ctx, "modprobe", "rbd").Run() }

func (a Attacher) sys(parts ...string) string {
	base := a.Sys
	if base == "" {
		base = "/sys/bus/rbd"
	}
	return filepath.Join(append([]string{base}, parts...)...)
}

func (a Attacher) dev(id string) string {
	base := a.Dev
	if base == "" {
		base = "/dev"
	}
	return filepath.Join(base, "rbd"+id)
}

// Attach maps an image, unless it is mapped.
func (a Attacher) Attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	want, err := volumeid.Parse(v.ID)
	if err != nil {
		return attach.Device{}, err
	}
	found, err := a.find(want)
	if err == nil && found == nil {
		if err := a.add(ctx, v); err != nil {
			return attach.Device{}, err
		}
		found, err = a.find(want)
	}
	switch {
	case err != nil:
		return attach.Device{}, err
	case found == nil:
		// A pool made anew under the old name has another ID.
		return attach.Device{}, fault.Errorf(fault.Refused, "pool %q is not the pool of %s: nothing of it is mapped", v.Pool, v.Image)
	case found.readOnly && !v.ReadOnly:
		return attach.Device{}, fault.Errorf(fault.Refused, "%s is mapped read-only as %s", v.Image, found.path)
	case !found.readOnly && v.ReadOnly:
		return attach.Device{}, fault.Errorf(fault.Refused, "%s is mapped to write as %s", v.Image, found.path)
	}
	if err := a.alone(ctx, v, want, found); err != nil {
		return found.device(v.ID), err
	}
	if err := a.limit(ctx, found); err != nil {
		klog.FromContext(ctx).Info("Limits are not kept", "reason", err.Error())
	}
	return found.device(v.ID), nil
}

// add tells the kernel to map an image.
func (a Attacher) add(ctx context.Context, v attach.Volume) error {
	lines, err := addLines(v)
	if err != nil {
		return err
	}
	step.Enter(ctx, "map "+v.Image.String()+" of cluster "+v.Credentials.FSID+" by the kernel")
	for _, line := range lines {
		// A kernel that does not know an option says EINVAL.
		if err = write(a.sys("add_single_major"), line); !errors.Is(err, unix.EINVAL) {
			break
		}
	}
	if err != nil {
		return explainMap(v, len(lines), err)
	}
	return nil
}

// Detach unmaps an image, if it is mapped.
func (a Attacher) Detach(ctx context.Context, volumeID string) error {
	want, err := volumeid.Parse(volumeID)
	if err != nil {
		return err
	}
	found, err := a.find(want)
	if err != nil || found == nil {
		return err
	}
	return a.remove(ctx, found)
}

// remove tells the kernel to unmap an image.
func (a Attacher) remove(ctx context.Context, m *mapping) error {
	step.Enter(ctx, "unmap "+m.path)
	if err := write(a.sys("remove_single_major"), m.id); err != nil {
		return explainUnmap(m.path, err)
	}
	return nil
}

// List returns what is mapped and could be of this driver.
func (a Attacher) List(context.Context) ([]attach.Device, error) {
	mappings, err := a.mappings()
	if err != nil {
		return nil, err
	}
	var devices []attach.Device
	for _, m := range mappings {
		if code, err := m.volume.Encode(); err == nil {
			devices = append(devices, m.device(code))
		}
	}
	return devices, nil
}

// Resize makes the kernel look at the image's size again.
func (a Attacher) Resize(ctx context.Context, volumeID string) (attach.Device, error) {
	want, err := volumeid.Parse(volumeID)
	if err != nil {
		return attach.Device{}, err
	}
	found, err := a.find(want)
	if err != nil {
		return attach.Device{}, err
	}
	if found == nil {
		return attach.Device{}, fault.Errorf(fault.NotFound, "volume %s is not attached", volumeID)
	}
	step.Enter(ctx, "refresh "+found.path)
	if err := write(a.sys("devices", found.id, "refresh"), "1"); err != nil {
		return attach.Device{}, explain("refresh "+found.path, err)
	}
	found, err = a.find(want)
	if err != nil || found == nil {
		return attach.Device{}, fmt.Errorf("look at the refreshed device of volume %s: %w", volumeID, err)
	}
	return found.device(volumeID), nil
}

func write(path, line string) error {
	f, err := os.OpenFile(path, os.O_WRONLY, 0)
	if err != nil {
		return err
	}
	_, err = f.WriteString(line)
	return errors.Join(err, f.Close())
}
