// Package link gives network interfaces an address and sets them up, with plain
// ioctls: neither the build root nor the guest has the command ip.
package link

import (
	"fmt"
	"net/netip"

	"golang.org/x/sys/unix"
)

// Up sets an interface up; one with an address gets it first.
func Up(name string, address netip.Prefix) error {
	fd, err := unix.Socket(unix.AF_INET, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC, 0)
	if err != nil {
		return fmt.Errorf("open a socket: %w", err)
	}
	defer func() { _ = unix.Close(fd) }()
	if address.IsValid() {
		mask := netip.PrefixFrom(netip.AddrFrom4([4]byte{255, 255, 255, 255}), address.Bits()).Masked().Addr()
		if err := set(fd, name, unix.SIOCSIFADDR, address.Addr()); err != nil {
			return err
		}
		if err := set(fd, name, unix.SIOCSIFNETMASK, mask); err != nil {
			return err
		}
	}
	r, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	r.SetUint16(unix.IFF_UP | unix.IFF_RUNNING)
	if err := unix.IoctlIfreq(fd, unix.SIOCSIFFLAGS, r); err != nil {
		return fmt.Errorf("set %s up: %w", name, err)
	}
	return nil
}

func set(fd int, name string, request uint, addr netip.Addr) error {
	r, err := unix.NewIfreq(name)
	if err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := r.SetInet4Addr(addr.AsSlice()); err != nil {
		return fmt.Errorf("interface %s: %w", name, err)
	}
	if err := unix.IoctlIfreq(fd, request, r); err != nil {
		return fmt.Errorf("set the address %s of %s: %w", addr, name, err)
	}
	return nil
}
