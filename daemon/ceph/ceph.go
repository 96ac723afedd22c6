// Package ceph is Cairn's only door to Ceph: small interfaces, which
// daemon/ceph/rados serves from a real cluster in process and
// daemon/ceph/model from memory. Both pass daemon/ceph/contract.
package ceph

import (
	"context"
	"io"
	"time"
)

// Credentials are what a client needs to connect.
type Credentials struct {
	FSID string
	// MonHost are the mons' addresses as the option mon_host takes them.
	MonHost string
	// User is the CephX entity without its type: "admin" for client.admin.
	User string
	Key  Key
	// Next is tried where Key is refused; it may be empty.
	Next Key `json:"next,omitempty"`
}

// ConnectOptions bound what a connection waits for.
type ConnectOptions struct {
	// MonTimeout and OSDTimeout end an operation that gets no answer. Zero waits
	// for ever: right for the data path, where an error would be a lost write.
	MonTimeout, OSDTimeout time.Duration
	// Near is where this client is in the CRUSH map (type=name, separated by
	// spaces). What it reads of images comes from the nearest replica then, and not
	// from the primary (RBD's option rbd_read_from_replica_policy).
	Near string
	// Config are further Ceph options of this client.
	Config map[string]string
}

// Conn is a connection to one cluster.
type Conn interface {
	Block
	Admin
	io.Closer
}

// Connector opens connections.
type Connector interface {
	Connect(ctx context.Context, credentials Credentials, options ConnectOptions) (Conn, error)
}
