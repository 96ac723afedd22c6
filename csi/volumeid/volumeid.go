// Package volumeid codes what a CSI volume is into its ID and back. An ID comes
// from the outside (anyone may write a PersistentVolume), so that Parse takes
// nothing but what Encode makes.
package volumeid

import (
	"errors"
	"fmt"
	"regexp"
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// MaxLength is what the CSI specification allows an ID.
const MaxLength = 128

// version is the first field of an ID: how to read the others.
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
var ErrInvalid = errors.New("not a volume ID of this driver")

// The longest namespace and image name that fit any pool ID into MaxLength.
const (
	MaxNamespace = 24
	MaxImage     = 48
)

var (
	fsidForm      = regexp.MustCompile(`^[0-9a-f]{8}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{4}-[0-9a-f]{12}$`)
	fsidCode      = regexp.MustCompile(`^[0-9a-f]{32}$`)
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
	return strings.Join([]string{
		version,
		strings.ReplaceAll(id.FSID, "-", ""),
		strconv.FormatInt(id.Image.PoolID, 10),
		id.Image.Namespace,
		id.Image.Name,
	}, "."), nil
}

func (id ID) check() error {
	switch {
	case CheckFSID(id.FSID) != nil:
		return fmt.Errorf("fsid %q: %w", id.FSID, CheckFSID(id.FSID))
	case id.Image.PoolID < 1:
		return fmt.Errorf("pool ID %d: must be 1 or more", id.Image.PoolID)
	case CheckNamespace(id.Image.Namespace) != nil:
		return fmt.Errorf("namespace %q: %w", id.Image.Namespace, CheckNamespace(id.Image.Namespace))
	case !imageForm.MatchString(id.Image.Name):
		return fmt.Errorf("image name %q: want at most %d of A-Z a-z 0-9 _ -", id.Image.Name, MaxImage)
	}
	return nil
}

// Parse reads the code of an ID.
func Parse(code string) (ID, error) {
	if len(code) > MaxLength {
		return ID{}, fmt.Errorf("%w: %d bytes long", ErrInvalid, len(code))
	}
	fields := strings.Split(code, ".")
	if len(fields) != 5 {
		return ID{}, fmt.Errorf("%w: %d fields, not 5", ErrInvalid, len(fields))
	}
	if fields[0] != version {
		return ID{}, fmt.Errorf("%w: version %q is unknown", ErrInvalid, fields[0])
	}
	pool, err := strconv.ParseInt(fields[2], 10, 64)
	if err != nil || strconv.FormatInt(pool, 10) != fields[2] {
		return ID{}, fmt.Errorf("%w: pool ID %q", ErrInvalid, fields[2])
	}
	if !fsidCode.MatchString(fields[1]) {
		return ID{}, fmt.Errorf("%w: fsid %q", ErrInvalid, fields[1])
	}
	id := ID{
		FSID:  dashed(fields[1]),
		Image: ceph.ImageRef{PoolID: pool, Namespace: fields[3], Name: fields[4]},
	}
	if err := id.check(); err != nil {
		return ID{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return id, nil
}

// dashed puts the dashes back into 32 hex digits.
func dashed(hex string) string {
	return strings.Join([]string{hex[:8], hex[8:12], hex[12:16], hex[16:20], hex[20:]}, "-")
}
