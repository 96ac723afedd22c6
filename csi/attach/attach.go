// Package attach makes images block devices of this node. Each way of doing so
// is a package below: krbd where the kernel has RBD, fuse where it has not.
package attach

import (
	"context"
	"crypto/sha256"
	"encoding/hex"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Volume is what is attached.
type Volume struct {
	// ID is the volume's CSI ID.
	ID    string        `json:"id"`
	Image ceph.ImageRef `json:"image"`
	// Pool is the name of the image's pool, for krbd; may be empty for others.
	Pool        string           `json:"pool,omitempty"`
	Credentials ceph.Credentials `json:"credentials"`
	ReadOnly    bool             `json:"readOnly,omitempty"`
	// Exclusive takes the image's exclusive lock and keeps it.
	Exclusive bool `json:"exclusive,omitempty"`
	// Passphrase opens an encrypted image.
	Passphrase ceph.Passphrase `json:"passphrase,omitempty"`
	// Snapshot attaches the image as it was then, read-only; zero attaches it as it is.
	Snapshot uint64 `json:"snapshot,omitempty"`
	// Near is where this node is in the CRUSH map, for reads from the nearest
	// replica (ceph.ConnectOptions); empty reads from the primaries.
	Near string `json:"near,omitempty"`
}

// Device is an attached volume.
type Device struct {
	VolumeID string `json:"volumeID"`
	// Path of the device node.
	Path  string `json:"path"`
	Major uint32 `json:"major"`
	Minor uint32 `json:"minor"`
	// Size in bytes.
	Size     int64 `json:"size"`
	ReadOnly bool  `json:"readOnly,omitempty"`
	// ClientAddrs are the addresses that fence this attachment when they are blocklisted.
	ClientAddrs string `json:"clientAddrs"`
}

// Attacher attaches volumes. Each call may be repeated.
type Attacher interface {
	// Attach makes a volume a device; the same one while it is attached.
	Attach(ctx context.Context, volume Volume) (Device, error)
	// Detach ends an attachment; none is fine.
	Detach(ctx context.Context, volumeID string) error
	// List returns the attached volumes whose devices work.
	List(ctx context.Context) ([]Device, error)
	// Resize makes the device as large as its image now is.
	Resize(ctx context.Context, volumeID string) (Device, error)
}

// Renewer is an attacher that can tell, and change, by which user a cluster is entered.
type Renewer interface {
	// Renew has what is attached of a cluster use other credentials, where that can be, and
	// returns the other users that are in use there: user → by what.
	Renew(ctx context.Context, credentials ceph.Credentials) (map[string]string, error)
}

// Hash names a volume in paths.
func Hash(volumeID string) string {
	sum := sha256.Sum256([]byte(volumeID))
	return hex.EncodeToString(sum[:16])
}

// Find returns a volume's device, nil when it is not attached.
func Find(ctx context.Context, a Attacher, volumeID string) (*Device, error) {
	devices, err := a.List(ctx)
	if err != nil {
		return nil, err
	}
	for i := range devices {
		if devices[i].VolumeID == volumeID {
			return &devices[i], nil
		}
	}
	return nil, nil
}
