// Package connections keeps one connection to each cluster that the driver works
// with, and makes it anew when it no longer serves.
package connections

import (
	"context"
	"errors"
	"sync"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Timeouts of the control path: nothing hangs longer on a mon or an OSD.
var Timeouts = ceph.ConnectOptions{MonTimeout: 15 * time.Second, OSDTimeout: 20 * time.Second}

// recheck is after what time the credentials of a connection are read again.
const recheck = 30 * time.Second

// linger is for how long a connection that was replaced stays open: calls that
// were given up may still run in it, up to their timeouts.
const linger = 45 * time.Second

// Manager hands out connections. Its methods may be called at once.
type Manager struct {
	source    Source
	connector ceph.Connector
	options   ceph.ConnectOptions

	mu       sync.Mutex
	clusters map[string]*cluster
}

// cluster is what the manager has of one. Its lock is a channel, so that who
// waits for it can give up.
type cluster struct {
	lock        chan struct{}
	conn        ceph.Conn
	credentials ceph.Credentials
	checked     time.Time
}

// New returns a manager without connections.
func New(source Source, connector ceph.Connector, options ceph.ConnectOptions) *Manager {
	return &Manager{source: source, connector: connector, options: options, clusters: map[string]*cluster{}}
}

// Do runs f with the connection to a cluster. When the connection turns out
// broken it is dropped, so that the next call connects anew.
func (m *Manager) Do(ctx context.Context, fsid string, f func(ceph.Block) error) error {
	step.Cluster(ctx, fsid)
	conn, err := m.get(ctx, fsid)
	if err != nil {
		return err
	}
	err = f(conn)
	if broken(err) {
		m.drop(ctx, fsid, conn)
	}
	return err
}

// broken reports whether an error means that the connection is of no more use.
func broken(err error) bool {
	if err == nil {
		return false
	}
	switch ceph.KindOf(err) {
	case ceph.Fenced, ceph.Unreached:
		return true
	case ceph.Forbidden:
		// A session keeps the caps that it began with: a pool may be newer.
		return true
	case ceph.Timeout:
		// Ceph's own timeout; an expired context says nothing of the connection.
		return !errors.Is(err, context.DeadlineExceeded) && !errors.Is(err, context.Canceled)
	}
	return false
}

func (m *Manager) get(ctx context.Context, fsid string) (ceph.Conn, error) {
	c := m.of(fsid)
	if err := c.acquire(ctx, fsid); err != nil {
		return nil, err
	}
	defer c.release()
	if c.conn != nil && time.Since(c.checked) < recheck {
		return c.conn, nil
	}
	return m.refresh(ctx, fsid, c)
}

func (m *Manager) of(fsid string) *cluster {
	m.mu.Lock()
	defer m.mu.Unlock()
	c := m.clusters[fsid]
	if c == nil {
		c = &cluster{lock: make(chan struct{}, 1)}
		m.clusters[fsid] = c
	}
	return c
}

func (c *cluster) acquire(ctx context.Context, fsid string) error {
	step.Enter(ctx, "wait for the connection to cluster "+fsid)
	select {
	case c.lock <- struct{}{}:
		return nil
	case <-ctx.Done():
		return &ceph.Error{Kind: ceph.Timeout, Op: "wait for the connection to cluster " + fsid, Err: ctx.Err()}
	}
}

func (c *cluster) release() { <-c.lock }

// refresh reads the credentials and connects with them, unless the connection
// was made with the same. A connection that works stays in use while the
// credentials cannot be read.
func (m *Manager) refresh(ctx context.Context, fsid string, c *cluster) (ceph.Conn, error) {
	step.Enter(ctx, "read the credentials of cluster "+fsid)
	credentials, err := m.source.Credentials(ctx, fsid)
	switch {
	case err != nil && c.conn != nil:
		klog.FromContext(ctx).Info("Credentials cannot be read: the connection stays in use", "cluster", fsid, "reason", err.Error())
		c.checked = time.Now()
		return c.conn, nil
	case err != nil:
		m.forget(fsid, c)
		return nil, err
	case c.conn != nil && c.credentials == credentials:
		c.checked = time.Now()
		return c.conn, nil
	}
	step.Enter(ctx, "connect to cluster "+fsid)
	conn, err := m.connector.Connect(ctx, credentials, m.options)
	if err != nil {
		return nil, err
	}
	retire(c.conn)
	c.conn, c.credentials, c.checked = conn, credentials, time.Now()
	klog.FromContext(ctx).Info("Connected", "cluster", fsid, "addresses", conn.ClientAddrs())
	return conn, nil
}

// forget keeps IDs of clusters that never were from filling the map.
func (m *Manager) forget(fsid string, c *cluster) {
	m.mu.Lock()
	defer m.mu.Unlock()
	if c.conn == nil && m.clusters[fsid] == c {
		delete(m.clusters, fsid)
	}
}

func (m *Manager) drop(ctx context.Context, fsid string, conn ceph.Conn) {
	c := m.of(fsid)
	if c.acquire(ctx, fsid) != nil {
		return // the next call that meets the same will drop it
	}
	defer c.release()
	if c.conn != conn {
		return
	}
	klog.FromContext(ctx).Info("Connection dropped", "cluster", fsid)
	retire(conn)
	c.conn = nil
}

func retire(conn ceph.Conn) {
	if conn != nil {
		time.AfterFunc(linger, func() { _ = conn.Close() })
	}
}

// Close closes all connections.
func (m *Manager) Close() error {
	m.mu.Lock()
	defer m.mu.Unlock()
	var errs []error
	for _, c := range m.clusters {
		if c.conn != nil {
			errs = append(errs, c.conn.Close())
			c.conn = nil
		}
	}
	return errors.Join(errs...)
}
