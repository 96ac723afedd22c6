package vm

import (
	"errors"
	"fmt"
	"os"
	"path/filepath"
	"slices"

	"golang.org/x/sys/unix"
)

// mount makes the guest's root filesystem, a writable layer over that of the
// options, and shows the machine's files below the emulator's root.
func (m *Machine) mount(k kernel) error {
	layer, root := filepath.Join(m.options.Dir, "layer"), filepath.Join(m.options.Dir, "root")
	emulator := m.options.Emulator
	return errors.Join(
		m.mountAt(layer, "tmpfs", "tmpfs", 0, ""),
		os.Mkdir(layer+"/files", 0o755), os.Mkdir(layer+"/work", 0o755),
		m.mountAt(root, "overlay", "overlay", 0, fmt.Sprintf("lowerdir=%s,upperdir=%s/files,workdir=%s/work", m.options.Root, layer, layer)),
		m.bindReadOnly(root+"/share", m.options.Share),
		m.bindReadOnly(root+"/usr/lib/modules", filepath.Dir(k.modules)),
		m.mountAt(emulator+inside, m.options.Dir, "", unix.MS_BIND|unix.MS_REC, ""),
		// QEMU sets modes through /proc/self/fd.
		m.mountAt(emulator+"/proc", "proc", "proc", 0, ""),
	)
}

// bindReadOnly shows a directory that nobody may change through the new path, not
// even who removes the machine's directory with all that is in it.
func (m *Machine) bindReadOnly(path, source string) error {
	if err := m.mountAt(path, source, "", unix.MS_BIND, ""); err != nil {
		return err
	}
	return m.mountAt(path, "", "", unix.MS_BIND|unix.MS_REMOUNT|unix.MS_RDONLY, "")
}

func (m *Machine) mountAt(path, source, kind string, flags uintptr, options string) error {
	if err := os.MkdirAll(path, 0o755); err != nil {
		return err
	}
	if err := unix.Mount(source, path, kind, flags, options); err != nil {
		return fmt.Errorf("mount %s at %s: %w", source, path, err)
	}
	if flags&unix.MS_REMOUNT == 0 {
		m.mounts = append(m.mounts, path)
	}
	return nil
}

func (m *Machine) unmount() {
	for _, path := range slices.Backward(m.mounts) {
		_ = unix.Unmount(path, unix.MNT_DETACH)
	}
}
