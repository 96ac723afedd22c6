package agent

import (
	"bytes"
	"context"
	"fmt"
	"os"

	"golang.org/x/sys/unix"
)

// kernelEvents is the multicast group of the kernel's own events.
const kernelEvents = 1

// WatchBlockDevices signals when block devices come, go or change, until the
// context ends. Signals that nobody takes are merged.
func WatchBlockDevices(ctx context.Context) (<-chan struct{}, error) {
	fd, err := unix.Socket(unix.AF_NETLINK, unix.SOCK_DGRAM|unix.SOCK_CLOEXEC|unix.SOCK_NONBLOCK, unix.NETLINK_KOBJECT_UEVENT)
	if err != nil {
		return nil, fmt.Errorf("watch block devices: %w", err)
	}
	socket := os.NewFile(uintptr(fd), "uevent")
	if err := unix.Bind(fd, &unix.SockaddrNetlink{Family: unix.AF_NETLINK, Groups: kernelEvents}); err != nil {
		_ = socket.Close()
		return nil, fmt.Errorf("watch block devices: %w", err)
	}
	context.AfterFunc(ctx, func() { _ = socket.Close() })
	events := make(chan struct{}, 1)
	go readEvents(ctx, socket, events)
	return events, nil
}

func readEvents(ctx context.Context, socket *os.File, events chan<- struct{}) {
	buffer := make([]byte, 64<<10)
	for {
		n, err := socket.Read(buffer)
		if ctx.Err() != nil {
			return
		}
		// An overflow (ENOBUFS) lost events: look as if there had been one.
		if err == nil && !isBlockEvent(buffer[:n]) {
			continue
		}
		select {
		case events <- struct{}{}:
		default:
		}
	}
}

// isBlockEvent reads an event: "add@/devices/…" and pairs, each ended by zero.
func isBlockEvent(event []byte) bool {
	for field := range bytes.SplitSeq(event, []byte{0}) {
		if string(field) == "SUBSYSTEM=block" {
			return true
		}
	}
	return false
}
