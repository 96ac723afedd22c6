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

const (
	// patience is how long systemd may take to answer.
	patience = 5 * time.Second
	// refusals end within this time where systemd only executes itself anew.
	refusals = 2 * time.Second
	// retry is how long after a refusal it is asked again.
	retry = 100 * time.Millisecond
)

// Stopping reports whether the node is being shut down or restarted. While units are stopped it is
// SystemState of org.freedesktop.systemd1(5) that says so. What is left then, as containers that
// containerd runs, is asked to stop by systemd-shutdown(8), which listens to nobody: a socket that
// is there and keeps refusing says so too. Where there is no systemd the node is not stopping.
func Stopping(ctx context.Context, socket string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	for began := time.Now(); ; {
		stopping, err := ask(ctx, socket)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case !errors.Is(err, syscall.ECONNREFUSED):
			return stopping, err
		case time.Since(began) >= refusals:
			return true, nil
		}
		select {
		case <-ctx.Done():
			return false, err
		case <-time.After(retry):
		}
	}
}

func ask(ctx context.Context, socket string) (stopping bool, err error) {
	bus, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(ctx))
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
