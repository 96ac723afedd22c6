// Package vm boots Debian's stock kernel in an emulator (QEMU without KVM) with
// one of the cached roots as its root filesystem. The caller must be root in a
// mount and a network namespace of its own: what is bound and the interface that
// is made stay there. An agent in the guest runs commands and passes connections on.
package vm

import (
	"context"
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"
	"time"
)

// Options of a machine.
type Options struct {
	// Emulator is a root with QEMU and a kernel, Root the root that the guest runs
	// in (neither is changed), Share a directory that the guest sees as /share.
	Emulator, Root, Share string
	// Agent is the program tests/krbd/vm/guest, linked statically.
	Agent string
	// Dir holds what the machine needs while it runs.
	Dir string
	// Tap is the near end of the guest's network (OpenTap), Guest the guest's address in it.
	Tap   *os.File
	Guest netip.Prefix
	// MiB of memory.
	MiB int
}

// Machine is a running guest.
type Machine struct {
	options Options
	qemu    *exec.Cmd
	ended   chan error
	mounts  []string
}

// Start boots a machine and returns once its agent answers.
func Start(ctx context.Context, options Options) (*Machine, error) {
	m := &Machine{options: options, ended: make(chan error, 1)}
	if err := m.boot(); err != nil {
		m.unmount()
		return nil, fmt.Errorf("boot the guest: %w", err)
	}
	if err := m.answers(ctx); err != nil {
		m.Stop()
		return nil, fmt.Errorf("%w; its console:\n%s", err, m.Console())
	}
	return m, nil
}

func (m *Machine) boot() error {
	kernel, err := findKernel(m.options.Emulator)
	if err != nil {
		return err
	}
	if err := m.initramfs(kernel); err != nil {
		return fmt.Errorf("make the initramfs: %w", err)
	}
	if err := m.mount(kernel); err != nil {
		return err
	}
	image, err := filepath.Rel(m.options.Emulator, kernel.image)
	if err != nil {
		return err
	}
	m.qemu = exec.Command("/usr/bin/qemu-system-x86_64", m.arguments("/"+image)...)
	m.qemu.Dir, m.qemu.ExtraFiles = "/", []*os.File{m.options.Tap}
	m.qemu.SysProcAttr = &syscall.SysProcAttr{Chroot: m.options.Emulator, Pdeathsig: syscall.SIGKILL}
	m.qemu.Stdout, m.qemu.Stderr = os.Stderr, os.Stderr
	if err := m.qemu.Start(); err != nil {
		return fmt.Errorf("start QEMU: %w", err)
	}
	go func() { m.ended <- m.qemu.Wait() }()
	return nil
}

// inside is where the emulator's root, in which it is chrooted, shows the machine's directory.
const inside = "/mnt"

func (m *Machine) arguments(kernel string) []string {
	return []string{
		"-machine", "pc,accel=tcg", "-cpu", "max", "-smp", "2", "-m", fmt.Sprint(m.options.MiB),
		"-nodefaults", "-no-reboot", "-display", "none", "-serial", "file:" + inside + "/console",
		"-kernel", kernel, "-initrd", inside + "/initramfs",
		"-append", fmt.Sprintf("console=ttyS0 quiet loglevel=5 panic=-1 mitigations=off ADDRESS=%s", m.options.Guest),
		"-netdev", "tap,id=net,fd=3", "-device", "virtio-net-pci,netdev=net,romfile=",
		"-virtfs", "local,path=" + inside + "/root,mount_tag=root,security_model=passthrough,multidevs=remap",
	}
}

// initramfs makes the archive that the kernel begins with: the agent as init,
// and the modules for it to load.
func (m *Machine) initramfs(k kernel) error {
	files, err := k.order(bootModules)
	if err != nil {
		return err
	}
	out, err := os.Create(filepath.Join(m.options.Dir, "initramfs"))
	if err != nil {
		return err
	}
	a := archive{w: out}
	for _, dir := range []string{"dev", "proc", "sys", "sbin", "modules", "root"} {
		a.directory(dir)
	}
	a.file("init", m.options.Agent)
	// The kernel calls this for a module that it misses.
	a.symlink("sbin/modprobe", "/init")
	for i, file := range files {
		a.file(fmt.Sprintf("modules/%02d-%s", i, filepath.Base(file)), filepath.Join(k.modules, file))
	}
	return errors.Join(a.close(), out.Close())
}

// answers waits until the agent does.
func (m *Machine) answers(ctx context.Context) error {
	tick := time.NewTicker(100 * time.Millisecond)
	defer tick.Stop()
	for {
		if _, err := m.Run(ctx, "true"); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the guest does not answer: %w", ctx.Err())
		case err := <-m.ended:
			m.ended <- err
			return errors.Join(errors.New("the guest ended while it booted"), err)
		case <-tick.C:
		}
	}
}

// Stop ends the machine as a power cut does.
func (m *Machine) Stop() {
	_ = m.qemu.Process.Kill()
	<-m.ended
	m.unmount()
}

// Console is what the guest's kernel printed.
func (m *Machine) Console() string {
	raw, err := os.ReadFile(filepath.Join(m.options.Dir, "console"))
	if err != nil {
		return err.Error()
	}
	return string(raw)
}
