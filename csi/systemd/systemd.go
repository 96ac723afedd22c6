// Package systemd asks the systemd of a node, and its logind, whether the node is shut down. A node
// may have another init, and none to ask.
package systemd

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"path/filepath"
	"strconv"
	"syscall"
	"time"

	"github.com/godbus/dbus/v5"
)

// Run is where a node has the sockets that are asked: systemd/private of systemd itself, which it
// serves to root until it ends, and dbus/system_bus_socket, behind which logind is.
const Run = "/run"

const (
	// patience is how long systemd may take to answer.
	patience = 5 * time.Second
	// refusals end within this time where systemd only executes itself anew.
	refusals = 2 * time.Second
	// retry is how long after a refusal it is asked again.
	retry = 100 * time.Millisecond
)

// Stopping reports whether the node is being shut down or restarted, where its sockets are below
// a directory. Before anything is stopped logind says so, while kubelet ends pods and holds it up
// (PreparingForShutdown of org.freedesktop.login1(5)); while units are stopped systemd does
// (SystemState of org.freedesktop.systemd1(5)). What is left then, as containers that containerd
// runs, is asked to stop by systemd-shutdown(8), which listens to nobody: a socket of systemd's that
// is there and keeps refusing says so too.
func Stopping(ctx context.Context, run string) (bool, error) {
	ctx, cancel := context.WithTimeout(ctx, patience)
	defer cancel()
	stopping, err := managerStops(ctx, filepath.Join(run, "systemd", "private"))
	if stopping || err != nil {
		return stopping, err
	}
	return logindPrepares(ctx, filepath.Join(run, "dbus", "system_bus_socket"))
}

func managerStops(ctx context.Context, socket string) (bool, error) {
	for began := time.Now(); ; {
		var state string
		err := property(ctx, socket, false, "org.freedesktop.systemd1", "/org/freedesktop/systemd1", "SystemState", &state)
		switch {
		case errors.Is(err, fs.ErrNotExist):
			return false, nil
		case !errors.Is(err, syscall.ECONNREFUSED):
			return state == "stopping", err
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

func logindPrepares(ctx context.Context, socket string) (preparing bool, err error) {
	err = property(ctx, socket, true, "org.freedesktop.login1", "/org/freedesktop/login1", "PreparingForShutdown", &preparing)
	var refused dbus.Error
	if errors.Is(err, fs.ErrNotExist) || errors.Is(err, syscall.ECONNREFUSED) || errors.As(err, &refused) {
		return false, nil // no bus, or no logind on it
	}
	return preparing, err
}

// property reads one of a Manager's, behind a socket of its own or a bus.
func property(ctx context.Context, socket string, isBus bool, name, path, property string, value any) error {
	conn, err := dbus.Dial("unix:path="+dbus.EscapeBusAddressValue(socket), dbus.WithContext(ctx))
	if err != nil {
		return fmt.Errorf("ask %s: %w", name, err)
	}
	defer func() { _ = conn.Close() }()
	err = conn.Auth([]dbus.Auth{dbus.AuthExternal(strconv.Itoa(os.Getuid()))})
	if err == nil && isBus {
		err = conn.Hello()
	}
	if err == nil {
		err = conn.Object(name, dbus.ObjectPath(path)).
			CallWithContext(ctx, "org.freedesktop.DBus.Properties.Get", dbus.FlagNoAutoStart, name+".Manager", property).Store(value)
	}
	if err != nil {
		return fmt.Errorf("ask %s for %s: %w", name, property, err)
	}
	return nil
}
