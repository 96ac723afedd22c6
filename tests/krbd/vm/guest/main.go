// Command guest is the first program of the virtual machine: it mounts the root
// filesystem and then serves commands in it.
package main

import (
	"fmt"
	"os"
	"path/filepath"
	"syscall"

	"golang.org/x/sys/unix"
)

func main() {
	var err error
	switch {
	case filepath.Base(os.Args[0]) == "modprobe":
		err = modprobe()
	case os.Getpid() == 1:
		err = boot()
	default:
		err = serve()
	}
	fmt.Fprintln(os.Stderr, "guest:", err)
	if os.Getpid() == 1 {
		_ = unix.Reboot(unix.LINUX_REBOOT_CMD_POWER_OFF)
	}
	os.Exit(1)
}

// modprobe stands for the program of that name where the kernel looks for it.
func modprobe() error {
	if err := unix.Chroot(root); err != nil {
		return fmt.Errorf("enter the root: %w", err)
	}
	return syscall.Exec("/sbin/modprobe", os.Args, []string{"PATH=/sbin:/bin"})
}
