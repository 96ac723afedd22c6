package main

import (
	"errors"
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/tests/krbd/vm/link"
)

// root is where the root filesystem is mounted.
const root = "/root"

// boot makes the machine ready, starts the agent and waits for orphans.
func boot() error {
	address, err := netip.ParsePrefix(os.Getenv("ADDRESS"))
	if err != nil {
		return fmt.Errorf("$ADDRESS: %w", err)
	}
	for _, step := range []func() error{loadModules, mountRoot,
		func() error { return link.Up("lo", netip.Prefix{}) },
		func() error { return link.Up("eth0", address) },
	} {
		if err := step(); err != nil {
			return err
		}
	}
	agent := exec.Command("/share/guest")
	agent.SysProcAttr = &syscall.SysProcAttr{Chroot: root}
	agent.Dir, agent.Env = "/", []string{"PATH=/usr/sbin:/usr/bin:/sbin:/bin", "HOME=/root", "LC_ALL=C.UTF-8"}
	agent.Stdout, agent.Stderr = os.Stdout, os.Stderr
	if err := agent.Start(); err != nil {
		return fmt.Errorf("start the agent: %w", err)
	}
	for {
		pid, err := syscall.Wait4(-1, nil, 0, nil)
		if pid == agent.Process.Pid || err != nil && !errors.Is(err, syscall.EINTR) {
			return fmt.Errorf("the agent ended (%w)", err)
		}
	}
}

// loadModules loads what is in the initramfs, in the order of the files' names.
func loadModules() error {
	files, err := filepath.Glob("/modules/*")
	if err != nil {
		return err
	}
	for _, path := range files {
		file, err := os.Open(path)
		if err != nil {
			return err
		}
		err = unix.FinitModule(int(file.Fd()), "", 0)
		_ = file.Close()
		if err != nil && !errors.Is(err, unix.EEXIST) {
			return fmt.Errorf("load %s: %w", path, err)
		}
	}
	return nil
}

// mountRoot mounts the root that the host shares, and what belongs in it.
func mountRoot() error {
	// A Go program without standard files, as the kernel calls modprobe, opens /dev/null.
	if err := unix.Mount("devtmpfs", "/dev", "devtmpfs", 0, ""); err != nil {
		return fmt.Errorf("mount /dev: %w", err)
	}
	for _, m := range []struct{ source, path, kind, options string }{
		{"root", "", "9p", "trans=virtio,version=9p2000.L,msize=262144,cache=loose"},
		{"proc", "/proc", "proc", ""},
		{"sysfs", "/sys", "sysfs", ""},
		{"devtmpfs", "/dev", "devtmpfs", ""},
		{"tmpfs", "/run", "tmpfs", ""},
		{"tmpfs", "/tmp", "tmpfs", ""},
		// QEMU serves no sockets.
		{"tmpfs", "/var/lib/kubelet", "tmpfs", ""},
		{"tmpfs", "/var/lib/cairn", "tmpfs", ""},
	} {
		if err := os.MkdirAll(root+m.path, 0o755); err != nil {
			return err
		}
		if err := unix.Mount(m.source, root+m.path, m.kind, 0, m.options); err != nil {
			return fmt.Errorf("mount %s: %w", m.path, err)
		}
	}
	return nil
}
