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

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Attacher attaches through the kernel.
type Attacher struct {
	// Sys is the RBD bus in sysfs, Dev the directory of device nodes; empty
	// means the real ones.
	Sys, Dev string
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
	if found, err := a.find(want); err != nil || found != nil {
		return a.answer(v, found, err)
	}
	line, err := addLine(v)
	if err != nil {
		return attach.Device{}, err
	}
	step.Enter(ctx, "map "+v.Image.String()+" by the kernel")
	if err := write(a.sys("add_single_major"), line); err != nil {
		return attach.Device{}, explain("map "+v.Image.String(), err)
	}
	found, err := a.find(want)
	return a.answer(v, found, err)
}

// answer turns what was found mapped into the device, if it is the one wanted.
func (a Attacher) answer(v attach.Volume, found *mapping, err error) (attach.Device, error) {
	switch {
	case err != nil:
		return attach.Device{}, err
	case found == nil:
		// A pool made anew under the old name has another ID.
		return attach.Device{}, fault.Errorf(fault.Refused, "pool %q is not the pool of %s: nothing of it is mapped", v.Pool, v.Image)
	case found.readOnly && !v.ReadOnly:
		return attach.Device{}, fault.Errorf(fault.Refused, "%s is mapped read-only as %s", v.Image, found.path)
	}
	return found.device(v.ID), nil
}

// explain gives the errno of the kernel's answer its kind.
func explain(op string, err error) error {
	var errno unix.Errno
	if errors.As(err, &errno) {
		return &ceph.Error{Kind: ceph.KindOfErrno(int(errno)), Op: op, Err: errno}
	}
	return fmt.Errorf("%s: %w", op, err)
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
	step.Enter(ctx, "unmap "+found.path)
	return explainNil("unmap "+found.path, write(a.sys("remove_single_major"), found.id))
}

func explainNil(op string, err error) error {
	if err == nil {
		return nil
	}
	return explain(op, err)
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
