// Package connection keeps one connection to each Ceph cluster for all
// reconcilers, so that asking Ceph costs a message and not a new client.
package connection

import (
	"context"
	"sync"
	"time"

	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/event"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Timeout bounds each question to a cluster.
const Timeout = 10 * time.Second

// Manager opens connections in the background: a reconciler is told at once
// that there is none yet, and is woken when there is.
type Manager struct {
	connector ceph.Connector
	// Wake receives the cluster whose connection has been opened.
	Wake chan event.TypedGenericEvent[*v1alpha1.StorageCluster]

	mu    sync.Mutex
	conns map[types.NamespacedName]*entry
	now   func() time.Time
}

type entry struct {
	cred  ceph.Credentials
	since time.Time
	conn  ceph.Conn
	err   error
	done  bool
	// renewing: another connection is being opened with other keys.
	renewing bool
}

// NewManager returns a manager without connections.
func NewManager(connector ceph.Connector) *Manager {
	return &Manager{
		connector: connector, conns: map[types.NamespacedName]*entry{}, now: time.Now,
		Wake: make(chan event.TypedGenericEvent[*v1alpha1.StorageCluster], 64),
	}
}

// Get returns the connection to a cluster, or an error of kind Unreached while
// it is being opened or when that failed.
func (m *Manager) Get(cluster *v1alpha1.StorageCluster, cred ceph.Credentials) (ceph.Conn, error) {
	key := types.NamespacedName{Namespace: cluster.Namespace, Name: cluster.Name}
	m.mu.Lock()
	defer m.mu.Unlock()
	e, ok := m.conns[key]
	if ok && e.conn != nil && e.err == nil && onlyKeysDiffer(e.cred, cred) {
		m.renew(key, e, cred)
		return e.conn, nil
	}
	if ok && e.cred != cred {
		m.drop(key)
		ok = false
	}
	if !ok {
		e = &entry{cred: cred, since: m.now()}
		m.conns[key] = e
		go m.open(cluster.DeepCopy(), e)
	}
	switch {
	case !e.done:
		return nil, ceph.Errorf(ceph.Unreached, "connect", "waiting for the mons at %s since %s", cred.MonHost, e.since.UTC().Format(time.TimeOnly))
	case e.err != nil:
		err := e.err
		delete(m.conns, key) // the next call tries again
		return nil, err
	}
	return e.conn, nil
}

// onlyKeysDiffer reports whether credentials are of the same user of a cluster, whose keys
// were made anew.
func onlyKeysDiffer(a, b ceph.Credentials) bool {
	if a == b {
		return false
	}
	a.Key, a.Next = b.Key, b.Next
	return a == b
}

// renew has a connection with other keys take the place of one that works, once it is open.
func (m *Manager) renew(key types.NamespacedName, e *entry, cred ceph.Credentials) {
	if e.renewing {
		return
	}
	e.renewing = true
	go func() {
		conn, err := m.connect(cred)
		m.mu.Lock()
		defer m.mu.Unlock()
		e.renewing = false
		if err != nil {
			return // the one that works goes on; the next call tries again
		}
		old := conn // of no use when the one that worked was dropped meanwhile
		if m.conns[key] == e {
			old, e.conn, e.cred = e.conn, conn, cred
		}
		time.AfterFunc(3*Timeout, func() { _ = old.Close() }) // calls may be under way in it
	}()
}

func (m *Manager) open(cluster *v1alpha1.StorageCluster, e *entry) {
	conn, err := m.connect(e.cred)
	m.mu.Lock()
	e.conn, e.err, e.done = conn, err, true
	m.mu.Unlock()
	m.Wake <- event.TypedGenericEvent[*v1alpha1.StorageCluster]{Object: cluster}
}

// connect opens a connection with a user's key, or else with its next one: Ceph may take
// that one already, and the Secret does not say so yet.
func (m *Manager) connect(cred ceph.Credentials) (ceph.Conn, error) {
	ctx, cancel := context.WithTimeout(context.Background(), 3*Timeout)
	defer cancel()
	options := ceph.ConnectOptions{MonTimeout: 2 * Timeout, OSDTimeout: 2 * Timeout}
	conn, err := m.connector.Connect(ctx, cred, options)
	if ceph.Is(err, ceph.Forbidden) && cred.Next != "" {
		cred.Key = cred.Next
		conn, err = m.connector.Connect(ctx, cred, options)
	}
	return conn, err
}

// Failed drops a connection after an error that says it no longer works. Another one that
// has taken its place meanwhile stays.
func (m *Manager) Failed(cluster *v1alpha1.StorageCluster, conn ceph.Conn, err error) {
	if !ceph.Is(err, ceph.Fenced) && !ceph.Is(err, ceph.Unreached) {
		return
	}
	key := types.NamespacedName{Namespace: cluster.Namespace, Name: cluster.Name}
	m.mu.Lock()
	defer m.mu.Unlock()
	if e, ok := m.conns[key]; ok && e.conn == conn {
		m.drop(key)
	}
}

// Forget closes the connection to a cluster.
func (m *Manager) Forget(key types.NamespacedName) {
	m.mu.Lock()
	defer m.mu.Unlock()
	m.drop(key)
}

func (m *Manager) drop(key types.NamespacedName) {
	if e, ok := m.conns[key]; ok && e.conn != nil {
		conn := e.conn
		go func() { _ = conn.Close() }()
	}
	delete(m.conns, key)
}
