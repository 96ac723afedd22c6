package vm

import (
	"fmt"
	"net/netip"
	"os"

	"golang.org/x/sys/unix"

	"github.com/cairn-storage/cairn/tests/krbd/vm/link"
)

// OpenTap makes a network interface whose other end is the returned file: it is
// there as long as the file is open, here or in the emulator.
func OpenTap(name string, address netip.Prefix) (*os.File, error) {
	fd, err := unix.Open("/dev/net/tun", unix.O_RDWR|unix.O_CLOEXEC, 0)
	if err != nil {
		return nil, fmt.Errorf("open /dev/net/tun: %w", err)
	}
	tap := os.NewFile(uintptr(fd), name)
	r, err := unix.NewIfreq(name)
	if err != nil {
		return nil, fmt.Errorf("interface %s: %w", name, err)
	}
	r.SetUint16(unix.IFF_TAP | unix.IFF_NO_PI | unix.IFF_VNET_HDR)
	if err := unix.IoctlIfreq(fd, unix.TUNSETIFF, r); err != nil {
		_ = tap.Close()
		return nil, fmt.Errorf("make the interface %s: %w", name, err)
	}
	if err := link.Up(name, address); err != nil {
		_ = tap.Close()
		return nil, err
	}
	return tap, nil
}
