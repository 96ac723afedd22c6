package ceph

import (
	"context"
	"fmt"
	"io"
)

// ImageRef names an RBD image. Pools are named by ID: a pool made anew under an
// old name is not the pool that a volume was made in.
type ImageRef struct {
	PoolID    int64
	Namespace string // RADOS namespace; empty is the default one
	Name      string
}

func (r ImageRef) String() string {
	return fmt.Sprintf("image %d/%s/%s", r.PoolID, r.Namespace, r.Name)
}

// ImageSpec is what an image is created with.
type ImageSpec struct {
	// Size in bytes.
	Size int64
	// Features are RBD feature names; empty means DefaultFeatures.
	Features []string
	// Metadata is written with the image; a repeat of a create compares it.
	Metadata map[string]string
}

// DefaultFeatures of a new image: exclusive-lock lets one writer own the image,
// object-map and fast-diff make deletes and diffs cheap, deep-flatten frees
// snapshots of clones.
var DefaultFeatures = []string{"layering", "exclusive-lock", "object-map", "fast-diff", "deep-flatten"}

// ImageInfo is what an image is.
type ImageInfo struct {
	ID       string
	Size     int64 // bytes
	Features []string
	Metadata map[string]string
	// Watchers are the addresses of clients that have the image open.
	Watchers []string
}

// Block is what the block driver asks of a cluster. Every call returns an
// *Error; each may be repeated.
type Block interface {
	// PoolID returns the ID of a pool. NotFound when there is none.
	PoolID(ctx context.Context, name string) (int64, error)
	// CreateImage makes an image. Exists when the name is taken, whatever by.
	CreateImage(ctx context.Context, ref ImageRef, spec ImageSpec) error
	// ImageInfo returns what an image is. NotFound when it is not there.
	ImageInfo(ctx context.Context, ref ImageRef) (*ImageInfo, error)
	// SetImageMetadata sets keys of an image's metadata and leaves the others.
	SetImageMetadata(ctx context.Context, ref ImageRef, metadata map[string]string) error
	// GrowImage makes an image at least size bytes long; it never shrinks one.
	GrowImage(ctx context.Context, ref ImageRef, size int64) error
	// RemoveImage deletes an image. NotFound when it is gone, Busy while it is open somewhere or has snapshots.
	RemoveImage(ctx context.Context, ref ImageRef) error
	// OpenImage opens an image for I/O.
	OpenImage(ctx context.Context, ref ImageRef, options OpenOptions) (Image, error)
	// ClientAddrs are this connection's own addresses as a blocklist names them.
	ClientAddrs() string
}

// OpenOptions choose how an image is opened.
type OpenOptions struct {
	ReadOnly bool
	// Exclusive takes the image's exclusive lock for as long as it is open and
	// never gives it to another client that asks: Busy when another owns it.
	Exclusive bool
}

// Image is an open image. Its I/O has no context: the cluster's own operation
// timeouts bound it, or nothing does where the caller chose to wait for ever.
type Image interface {
	io.ReaderAt
	io.WriterAt
	io.Closer
	// Size in bytes, as it is now.
	Size() (int64, error)
	Flush() error
	Discard(offset, length int64) error
	// WriteZeroes makes a range read as zeroes.
	WriteZeroes(offset, length int64) error
}
