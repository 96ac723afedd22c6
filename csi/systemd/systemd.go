// Package systemd asks the systemd of a node. A node may have another init, and none to ask.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"strconv"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// Socket of systemd itself, which it serves to root until it ends; the message bus and logind
// are stopped as everything else.
const Socket = "/run/systemd/private"

// patience is how long systemd may take to answer.
const patience = 5 * time.Second

// Stopping reports whether the node is being shut down or restarted: SystemState of
// org.freedesktop.systemd1(5). Where there is no systemd it is not.
func Stopping(ctx context.Context, socket string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	bus, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(ctx))
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) {
		return false, nil
	}
	if err != nil {
		return false, fmt.Errorf("ask systemd: %w", err)
	}
	defer func() { _ = bus.Close() }()
	if err := bus.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))}); err != nil {
		return false, fmt.Errorf("ask systemd: %w", err)
	}
	var state string
	if err := bus.Object("org.freedesktop.systemd1", "/org/freedesktop/systemd1").
		StoreProperty("org.freedesktop.systemd1.Manager.SystemState", &state); err != nil {
		return false, fmt.Errorf("ask systemd for its state: %w", err)
	}
	return state == "stopping", nil
}
