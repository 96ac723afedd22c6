package ceph

import (
	"context"
	"fmt"
	"io"
	"time"
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
	// Size in bytes, as its user sees it: an encrypted image is larger by its header.
	Size int64
	// Features are RBD feature names; empty means DefaultFeatures.
	Features []string
	// Metadata is written with the image; a repeat of a create compares it.
	Metadata map[string]string
	// Passphrase formats the image with LUKS2 (AES-256-XTS) for librbd's own
	// encryption; it must be random, for a guess is cheap. Empty makes a plain image. A clone takes its parent's format.
	Passphrase Passphrase
	// DataPool names the erasure-coded pool that holds the image's data; empty is the image's
	// own. An encrypted image cannot be there: Invalid.
	DataPool string
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
	// Parent is the snapshot that the image is a clone of; nil for none.
	Parent *SnapshotRef
	// Limits of its I/O.
	Limits Limits
	// Encrypted: it opens with a passphrase only.
	Encrypted bool
}

// SnapshotRef names a snapshot by the IDs that RBD gave image and snapshot: a
// rename of the image does not change them.
type SnapshotRef struct {
	PoolID    int64
	Namespace string
	ImageID   string
	SnapID    uint64
}

func (r SnapshotRef) String() string {
	return fmt.Sprintf("snapshot %d/%s/%s@%d", r.PoolID, r.Namespace, r.ImageID, r.SnapID)
}

// SnapshotInfo is what a snapshot is.
type SnapshotInfo struct {
	Ref SnapshotRef
	// Image is the name of the snapshot's image, as it is now.
	Image string
	// Name of the snapshot; that of the group for one of a group snapshot.
	Name    string
	Size    int64 // bytes
	Created time.Time
	// Group is set for a snapshot that was made with others by SnapshotGroup.
	Group *GroupRef
}

// GroupRef names a group snapshot.
type GroupRef struct {
	PoolID    int64
	Namespace string
	Name      string
}

func (r GroupRef) String() string {
	return fmt.Sprintf("group snapshot %d/%s/%s", r.PoolID, r.Namespace, r.Name)
}

// GroupInfo is what a group snapshot is.
type GroupInfo struct {
	Ref     GroupRef
	Created time.Time
	// Members in the order of their image IDs.
	Members []SnapshotInfo
}

// Extent is a range of bytes of an image.
type Extent struct {
	Offset, Length int64
	// Zero: the range was discarded and reads as zeroes.
	Zero bool
}

// Limits bound an image's I/O; zero is no limit.
type Limits struct {
	IOPS, ReadIOPS, WriteIOPS                int64 // operations a second
	Bandwidth, ReadBandwidth, WriteBandwidth int64 // bytes a second
}

// PoolUsage is how full a pool is.
type PoolUsage struct {
	Name string
	// DataPool names the pool that holds the data of its images, which the figures are of; empty is itself.
	DataPool string
	// Stored bytes, before replication.
	Stored int64
	// Available bytes for further data, after replication: the smaller of what
	// the OSDs leave and what the quota leaves.
	Available int64
	// Quota in bytes; zero is none.
	Quota int64
	// Full: the cluster refuses writes to the pool.
	Full bool
}

// PoolName is a pool's ID and name.
type PoolName struct {
	ID   int64
	Name string
}

// HiddenPrefix begins the names of images that were deleted and wait to be
// purged. No volume ID can name one.
const HiddenPrefix = "cairn-deleted."

// AttachmentKey is the key of an image's metadata that names the last exclusive
// attachment of Cairn's data path. Whoever has the lock of an image that bears it
// can be asked to let go of it for a moment.
const AttachmentKey = "cairn.storage/attachment"

// Passphrase opens an encrypted image. It prints as nothing but its presence.
type Passphrase string

// String hides the passphrase.
func (p Passphrase) String() string {
	if p == "" {
		return "none"
	}
	return "hidden"
}

// GoString hides the passphrase.
func (p Passphrase) GoString() string { return p.String() }

// Block is what the block driver asks of a cluster. Every call returns an
// *Error; each may be repeated.
type Block interface {
	// PoolID returns the ID of a pool. NotFound when there is none.
	PoolID(ctx context.Context, name string) (int64, error)
	// ImagePools returns the pools that this client may keep images in, by ID: no erasure-coded ones.
	ImagePools(ctx context.Context) ([]PoolName, error)
	// PoolUsage returns how full a pool is. NotFound when there is none.
	PoolUsage(ctx context.Context, poolID int64) (*PoolUsage, error)

	// CreateImage makes an image. Exists when the name is taken, whatever by.
	CreateImage(ctx context.Context, ref ImageRef, spec ImageSpec) error
	// CloneImage makes an image that begins as a snapshot is, without copying it
	// (RBD's clone format 2). spec.Size is at least the snapshot's. Exists when
	// the name is taken, NotFound when the snapshot is gone.
	CloneImage(ctx context.Context, parent SnapshotRef, ref ImageRef, spec ImageSpec) error
	// ImageInfo returns what an image is. NotFound when it is not there.
	ImageInfo(ctx context.Context, ref ImageRef) (*ImageInfo, error)
	// ListImages returns up to limit names of images in a pool and namespace, in
	// order, after a name; those of hidden images too.
	ListImages(ctx context.Context, poolID int64, namespace, after string, limit int) ([]string, error)
	// SetImageMetadata sets keys of an image's metadata and leaves the others.
	SetImageMetadata(ctx context.Context, ref ImageRef, metadata map[string]string) error
	// LimitImage bounds an image's I/O, also where it is open now.
	LimitImage(ctx context.Context, ref ImageRef, limits Limits) error
	// GrowImage makes an image at least size bytes long; it never shrinks one.
	GrowImage(ctx context.Context, ref ImageRef, size int64) error
	// FlattenImage copies what a clone shares with its parent, and cuts the tie.
	// It reports progress in objects, and ends early when the context does.
	FlattenImage(ctx context.Context, ref ImageRef, progress func(done, total uint64)) error
	// HideImage renames an image to HiddenPrefix and its ID, so that its name is
	// free and its snapshots and clones live on. NotFound when it is gone, Busy
	// while it is open somewhere.
	HideImage(ctx context.Context, ref ImageRef) error
	// RemoveImage deletes an image. NotFound when it is gone, Busy while it is
	// open somewhere, or has snapshots or clones.
	RemoveImage(ctx context.Context, ref ImageRef) error
	// OpenImage opens an image for I/O.
	OpenImage(ctx context.Context, ref ImageRef, options OpenOptions) (Image, error)

	// CreateSnapshot makes a snapshot of an image, or returns the one that has
	// the name. NotFound when there is no image.
	CreateSnapshot(ctx context.Context, image ImageRef, name string) (*SnapshotInfo, error)
	// Snapshot returns what a snapshot is. NotFound when it, or its image, is gone.
	Snapshot(ctx context.Context, ref SnapshotRef) (*SnapshotInfo, error)
	// ListSnapshots returns an image's snapshots, those of groups too, in the
	// order of their IDs; not those that were removed but have clones still.
	ListSnapshots(ctx context.Context, image ImageRef) ([]SnapshotInfo, error)
	// RemoveSnapshot removes a snapshot; clones of it live on. NotFound when it is
	// gone, Invalid when it belongs to a group snapshot.
	RemoveSnapshot(ctx context.Context, ref SnapshotRef) error
	// Diff calls f with the extents that differ between two snapshots of one image,
	// in order, from an offset on; base nil stands for an empty image, so that the
	// extents are those that hold data, a parent's included. It ends with f's error.
	Diff(ctx context.Context, base *SnapshotRef, target SnapshotRef, offset int64, f func(Extent) error) error

	// SnapshotGroup makes snapshots of several images at one instant: writes to
	// all of them are held while it is made. It returns the group snapshot that has
	// the name, if there is one, whatever its members. Busy while an image is
	// in another group.
	SnapshotGroup(ctx context.Context, group GroupRef, images []ImageRef) (*GroupInfo, error)
	// Group returns what a group snapshot is. NotFound when there is none.
	Group(ctx context.Context, group GroupRef) (*GroupInfo, error)
	// RemoveGroup removes a group snapshot with its members; clones of them live
	// on. NotFound when it is gone.
	RemoveGroup(ctx context.Context, group GroupRef) error

	// ClientAddrs are this connection's own addresses as a blocklist names them.
	ClientAddrs() string
	// Blocklist fences a client: none of its writes is taken any more once this
	// returns. The entry ends by itself after expire.
	Blocklist(ctx context.Context, addrs string, expire time.Duration) error
}

// OpenOptions choose how an image is opened.
type OpenOptions struct {
	ReadOnly bool
	// Exclusive takes the image's exclusive lock for as long as it is open and
	// never gives it to another client that asks: Busy when another owns it.
	Exclusive bool
	// Passphrase opens an encrypted image; required for one.
	Passphrase Passphrase
	// Snapshot opens the image as it was then, read-only; zero opens it as it is.
	Snapshot uint64
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
