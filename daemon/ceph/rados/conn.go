// Package rados serves daemon/ceph from a real cluster, in process, through
// librados and librbd. It is the only package that imports go-ceph.
package rados

import (
	"context"
	"errors"
	"fmt"
	"io"
	"strconv"
	"sync"
	"sync/atomic"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Connector opens connections with librados.
type Connector struct{}

type conn struct {
	rados *rados.Conn
	addrs string
	// open is held for reading by each call, so that Close waits for them:
	// librados must not be shut down under a call.
	open   sync.RWMutex
	closed bool
	// stalePools: the OSD map may lack what this connection did to pools.
	stalePools atomic.Bool
	// abandoned is after what time nobody can be at work any more on an image that
	// was begun.
	abandoned time.Duration
}

// Connect opens a connection and checks that the cluster is the one asked for.
func (Connector) Connect(ctx context.Context, cred ceph.Credentials, options ceph.ConnectOptions) (ceph.Conn, error) {
	handle, err := rados.NewConnWithClusterAndUser("ceph", "client."+cred.User)
	if err != nil {
		return nil, wrap("create a RADOS handle", err)
	}
	if err := configure(handle, cred, options); err != nil {
		return nil, err
	}
	op := "connect to " + cred.MonHost
	connected := &conn{rados: handle, abandoned: abandonedAfter(options.OSDTimeout)}
	if err := connected.run(ctx, op, func() error { return wrap(op, handle.Connect()) }); err != nil {
		return nil, err
	}
	if err := connected.identify(cred.FSID); err != nil {
		handle.Shutdown()
		return nil, err
	}
	return connected, nil
}

func configure(handle *rados.Conn, cred ceph.Credentials, options ceph.ConnectOptions) error {
	settings := map[string]string{
		"mon_host": cred.MonHost,
		"key":      cred.Key.Reveal(),
		// A client has no log file and no admin socket of its own.
		"log_to_stderr":         "false",
		"log_file":              "",
		"admin_socket":          "",
		"fatal_signal_handlers": "false",
	}
	if options.MonTimeout > 0 {
		settings["rados_mon_op_timeout"] = seconds(options.MonTimeout)
		settings["client_mount_timeout"] = seconds(options.MonTimeout)
	}
	if options.OSDTimeout > 0 {
		settings["rados_osd_op_timeout"] = seconds(options.OSDTimeout)
	}
	if options.Near != "" {
		settings["crush_location"] = options.Near
		settings["rbd_read_from_replica_policy"] = "localize"
	}
	for option, value := range options.Config {
		settings[option] = value
	}
	for option, value := range settings {
		if err := handle.SetConfigOption(option, value); err != nil {
			return wrap("set the client option "+option, err)
		}
	}
	return nil
}

// seconds is a duration as Ceph's timeouts take it: whole seconds, at least one.
func seconds(d time.Duration) string { return strconv.Itoa(max(1, int(d.Seconds()))) }

func (c *conn) identify(want string) error {
	fsid, err := c.rados.GetFSID()
	if err != nil {
		return wrap("read the cluster's fsid", err)
	}
	if want != "" && fsid != want {
		return ceph.Errorf(ceph.Invalid, "connect", "the mons serve cluster %s, not %s", fsid, want)
	}
	if c.addrs, err = c.rados.GetAddrs(); err != nil {
		return wrap("read the client's own addresses", err)
	}
	return nil
}

// ClientAddrs are this connection's own addresses as a blocklist names them.
func (c *conn) ClientAddrs() string { return c.addrs }

// Close ends the connection once the calls under way have ended.
func (c *conn) Close() error {
	c.open.Lock()
	defer c.open.Unlock()
	if !c.closed {
		c.closed = true
		c.rados.Shutdown()
	}
	return nil
}

// call runs a blocking call into Ceph and gives up waiting when the context
// ends. The call itself is left to Ceph's own timeout, which frees its thread.
func call[T any](ctx context.Context, c *conn, op string, f func() (T, error)) (T, error) {
	var none T
	if err := ctx.Err(); err != nil {
		return none, &ceph.Error{Kind: ceph.Timeout, Op: op, Err: err}
	}
	done := make(chan result[T], 1)
	start := time.Now()
	go func() {
		c.open.RLock()
		defer c.open.RUnlock()
		if c.closed {
			done <- result[T]{err: ceph.Errorf(ceph.Unreached, op, "the connection is closed")}
			return
		}
		value, err := f()
		done <- result[T]{value, err}
	}()
	select {
	case r := <-done:
		return r.value, r.err
	case <-ctx.Done():
		go closeLate(done)
		return none, &ceph.Error{Kind: ceph.Timeout, Op: op,
			Err: fmt.Errorf("no answer from the cluster after %s: %w", time.Since(start).Round(time.Millisecond), ctx.Err())}
	}
}

type result[T any] struct {
	value T
	err   error
}

// closeLate closes what a call opened after its caller had gone: an image that
// nobody knows of would keep its lock.
func closeLate[T any](done <-chan result[T]) {
	late := <-done
	if opened, ok := any(late.value).(io.Closer); ok && late.err == nil {
		_ = opened.Close()
	}
}

// run is call for what has no result.
func (c *conn) run(ctx context.Context, op string, f func() error) error {
	_, err := call(ctx, c, op, func() (struct{}, error) { return struct{}{}, f() })
	return err
}

// wrap gives an error of librados or librbd its kind.
func wrap(op string, err error) error {
	if err == nil {
		return nil
	}
	var known *ceph.Error
	if errors.As(err, &known) {
		return err
	}
	var coded interface{ ErrorCode() int }
	if errors.As(err, &coded) {
		return &ceph.Error{Kind: ceph.KindOfErrno(coded.ErrorCode()), Op: op, Err: err}
	}
	return &ceph.Error{Kind: ceph.Unexpected, Op: op, Err: err}
}
