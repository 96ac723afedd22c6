package volumeid

import (
	"fmt"
	"regexp"
	"strconv"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The first fields of the IDs of snapshots and group snapshots, which no
// volume's ID has.
const (
	snapshotVersion = "1s"
	groupVersion    = "1g"
)

// SnapshotID names a snapshot. Its code is
//
//	1s.<fsid, 32 hex digits>.<pool ID>.<RADOS namespace>.<image ID>.<snapshot ID>
type SnapshotID struct {
	FSID     string
	Snapshot ceph.SnapshotRef
}

// GroupID names a group snapshot. Its code is
//
//	1g.<fsid, 32 hex digits>.<pool ID>.<RADOS namespace>.<name>
type GroupID struct {
	FSID  string
	Group ceph.GroupRef
}

// imageIDForm is what RBD makes as the ID of an image: hex digits.
var imageIDForm = regexp.MustCompile(`^[0-9a-f]{1,26}$`)

// Encode returns the code of an ID.
func (id SnapshotID) Encode() (string, error) {
	if err := id.check(); err != nil {
		return "", err
	}
	s := id.Snapshot
	return join(snapshotVersion, id.FSID, s.PoolID, s.Namespace, s.ImageID, strconv.FormatUint(s.SnapID, 10))
}

func (id SnapshotID) check() error {
	if err := checkPlace(id.FSID, id.Snapshot.PoolID, id.Snapshot.Namespace); err != nil {
		return err
	}
	if !imageIDForm.MatchString(id.Snapshot.ImageID) {
		return fmt.Errorf("image ID %q: want hex digits", id.Snapshot.ImageID)
	}
	if id.Snapshot.SnapID == 0 {
		return fmt.Errorf("snapshot ID 0: must be 1 or more")
	}
	return nil
}

// ParseSnapshot reads the code of a snapshot's ID.
func ParseSnapshot(code string) (SnapshotID, error) {
	p, rest, err := split(code, snapshotVersion, 2)
	if err != nil {
		return SnapshotID{}, err
	}
	snap, err := strconv.ParseUint(rest[1], 10, 64)
	if err != nil || strconv.FormatUint(snap, 10) != rest[1] {
		return SnapshotID{}, fmt.Errorf("%w: snapshot ID %q", ErrInvalid, rest[1])
	}
	id := SnapshotID{FSID: p.fsid, Snapshot: ceph.SnapshotRef{PoolID: p.pool, Namespace: p.namespace, ImageID: rest[0], SnapID: snap}}
	if err := id.check(); err != nil {
		return SnapshotID{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return id, nil
}

// Encode returns the code of an ID.
func (id GroupID) Encode() (string, error) {
	if err := id.check(); err != nil {
		return "", err
	}
	return join(groupVersion, id.FSID, id.Group.PoolID, id.Group.Namespace, id.Group.Name)
}

func (id GroupID) check() error {
	if err := checkPlace(id.FSID, id.Group.PoolID, id.Group.Namespace); err != nil {
		return err
	}
	if !imageForm.MatchString(id.Group.Name) {
		return fmt.Errorf("group name %q: want at most %d of A-Z a-z 0-9 _ -", id.Group.Name, MaxImage)
	}
	return nil
}

// ParseGroup reads the code of a group snapshot's ID.
func ParseGroup(code string) (GroupID, error) {
	p, rest, err := split(code, groupVersion, 1)
	if err != nil {
		return GroupID{}, err
	}
	id := GroupID{FSID: p.fsid, Group: ceph.GroupRef{PoolID: p.pool, Namespace: p.namespace, Name: rest[0]}}
	if err := id.check(); err != nil {
		return GroupID{}, fmt.Errorf("%w: %w", ErrInvalid, err)
	}
	return id, nil
}
