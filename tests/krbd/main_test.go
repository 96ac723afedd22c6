// Package krbd runs the node plugin on Debian's stock kernel, in an emulated
// machine, with the kernel's own RBD client against a real Ceph. It needs root
// and Ceph's daemons: run it inside the build root (make krbd).
package krbd

import (
	"fmt"
	"net/netip"
	"os"
	"os/exec"
	"syscall"
	"testing"

	"github.com/cairn-storage/cairn/tests/controlplane"
	"github.com/cairn-storage/cairn/tests/krbd/vm/link"
)

// isolated marks the process that runs the tests.
const isolated = "CAIRN_KRBD_ISOLATED"

// TestMain runs the tests in a network namespace of their own.
func TestMain(m *testing.M) {
	if os.Getenv(isolated) == "" {
		os.Exit(again())
	}
	if err := link.Up("lo", netip.Prefix{}); err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
	controlplane.Main(m)
}

// again runs this program once more, isolated, and returns its exit code.
func again() int {
	cmd := exec.Command(os.Args[0], os.Args[1:]...)
	cmd.Env = append(os.Environ(), isolated+"=1")
	cmd.Stdin, cmd.Stdout, cmd.Stderr = os.Stdin, os.Stdout, os.Stderr
	cmd.SysProcAttr = &syscall.SysProcAttr{Cloneflags: syscall.CLONE_NEWNET | syscall.CLONE_NEWNS, Pdeathsig: syscall.SIGTERM}
	if err := cmd.Run(); err != nil {
		fmt.Fprintln(os.Stderr, "run the tests in a network namespace of their own:", err)
		return 1
	}
	return 0
}
