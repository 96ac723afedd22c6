// Package volumeid codes what a CSI volume is into its ID and back. An ID comes
// from the outside (anyone may write a PersistentVolume), so that Parse takes
// nothing but what Encode makes.
package volumeid

import (
	"errors"
	"fmt"
	"regexp"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// MaxLength is what the CSI specification allows an ID.
const MaxLength = 128

// version is the first field of a volume's ID: how to read the others.
const version = "1"

// ID names the image of a volume. Its code is
//
//	1.<fsid, 32 hex digits>.<pool ID>.<RADOS namespace>.<image name>
type ID struct {
	// FSID of the cluster, in its canonical form with dashes.
	FSID  string
	Image ceph.ImageRef
}

// ErrInvalid is in the chain of each error of Parse.
var ErrInvalid = errors.New("not an ID of this driver")

// The longest namespace and image name that fit any pool ID into MaxLength.
const (
	MaxNamespace = 24
	MaxImage     = 48
)

var (
	fsidForm      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	namespaceForm = regexp.MustCompile(`^[A-Za-z0-9_-]{0,24}$`)
	imageForm     = regexp.MustCompile(`^[A-Za-z0-9][A-Za-z0-9_-]{0,47}$`)
)

// CheckFSID says what is wrong with a cluster's fsid.
func CheckFSID(fsid string) error {
	if !fsidForm.MatchString(fsid) {
		return errors.New("is not an fsid: want a lower-case UUID such as 6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f")
	}
	return nil
}

// CheckNamespace says what is wrong with a RADOS namespace.
func CheckNamespace(namespace string) error {
	if !namespaceForm.MatchString(namespace) {
		return fmt.Errorf("is not a RADOS namespace that a volume can be in: at most %d of A-Z a-z 0-9 _ -", MaxNamespace)
	}
	return nil
}

// Encode returns the code of an ID.
func (id ID) Encode() (string, error) {
	if err := id.check(); err != nil {
		return "", err
	}
	return join(version, id.FSID, id.Image.PoolID, id.Image.Namespace, id.Image.Name)
}

func (id ID) check() error {
	if err := checkPlace(id.FSID, id.Image.PoolID, id.Image.Namespace); err != nil {
		return err
	}
	if !imageForm.MatchString(id.Image.Name) {
		return fmt.Errorf("image name %q: want at most %d of A-Z a-z 0-9 _ -", id.Image.Name, MaxImage)
	}
	return nil
}

// Parse reads the code of an ID.
func Parse(code string) (ID, error) {
	p, rest, err := split(code, version, 1)
	if err != nil {
		return ID{}, err
	}
	id := ID{FSID: p.fsid, Image: ceph.ImageRef{PoolID: p.pool, Namespace: p.namespace, Name: rest[0]}}
	if err := id.check(); err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return id, nil
}
