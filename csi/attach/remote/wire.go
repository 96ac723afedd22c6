// Package remote is the attach process's socket: an Attacher behind HTTP and JSON
// on a unix socket, so that the data path outlives the plugin that commands it.
package remote

import (
	"errors"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The paths of the calls; each takes and answers JSON.
const (
	pathAttach  = "/v1/attach"
	pathDetach  = "/v1/detach"
	pathResize  = "/v1/resize"
	pathDevices = "/v1/devices"
	pathRenew   = "/v1/renew"
)

// reference names a volume.
type reference struct {
	ID string `json:"id"`
}

// failure is an error on its way: its kind survives.
type failure struct {
	Fault   fault.Kind `json:"fault,omitempty"`
	Ceph    ceph.Kind  `json:"ceph,omitempty"`
	Message string     `json:"message"`
}

func pack(err error) failure {
	f := failure{Fault: fault.KindOf(err), Message: err.Error()}
	if f.Fault == "" {
		f.Ceph = ceph.KindOf(err)
	}
	return f
}

func (f failure) unpack() error {
	if f.Fault != "" {
		return &fault.Error{Kind: f.Fault, Err: errors.New(f.Message)}
	}
	return &ceph.Error{Kind: f.Ceph, Op: "attach process", Err: errors.New(f.Message)}
}
