package rados

import (
	"encoding/binary"
	"errors"
	"fmt"
	"strconv"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// What a group holds is read from its header itself: librbd's own lists fail as a
// whole once one image that they name is gone, and librbd does not find a member's
// snapshot any more that a removal which was cut off left in its image's trash.
const (
	groupHeader = "rbd_group_header." // + the group's ID
	memberKey   = "image_"            // + the pool's ID in 16 hexadecimal digits, "_", the image's ID
	groupSnap   = "snapshot_"         // + the group snapshot's ID
)

// groupImage is an image that a group names.
type groupImage struct {
	pool int64
	id   string
}

// groupState is what a group holds.
type groupState struct {
	id        string
	members   []groupImage
	snapshots map[string][]groupImage // by the snapshot's ID
}

// read reads what a group holds. ENOENT when there is no group of the name; one
// whose header is not there yet, or no more, holds nothing.
func (g group) read() (*groupState, error) {
	id, err := lookUp(g.ioctx, groupDirectory, nameKey+g.ref.Name)
	if err != nil {
		return nil, err
	}
	state := &groupState{id: id, snapshots: map[string][]groupImage{}}
	values, err := g.ioctx.GetAllOmapValues(groupHeader+id, "", "", 1000)
	if err != nil {
		return state, ignoreNotFound(err)
	}
	for key, value := range values {
		if err := state.take(key, value); err != nil {
			return nil, fmt.Errorf("read the header of group %s: %s: %w", g.ref.Name, key, err)
		}
	}
	return state, nil
}

func (s *groupState) take(key string, value []byte) error {
	if text, ok := strings.CutPrefix(key, memberKey); ok {
		member, err := parseMember(text)
		s.members = append(s.members, member)
		return err
	}
	if id, ok := strings.CutPrefix(key, groupSnap); ok {
		images, err := decodeGroupSnapshot(value)
		s.snapshots[id] = images
		return err
	}
	return nil
}

func parseMember(text string) (groupImage, error) {
	pool, id, _ := strings.Cut(text, "_")
	number, err := strconv.ParseInt(pool, 16, 64)
	return groupImage{number, id}, err
}

// decodeGroupSnapshot reads the images of a group snapshot (cls_rbd_types.h): ID,
// name, state, and of each image pool, ID and snapshot.
func decodeGroupSnapshot(data []byte) ([]groupImage, error) {
	data, _, err := takeStruct(data)
	for range 2 {
		if err == nil {
			_, data, err = takeText(data)
		}
	}
	if err != nil || len(data) < 5 {
		return nil, errors.Join(err, errShort)
	}
	count := binary.LittleEndian.Uint32(data[1:])
	data = data[5:]
	var images []groupImage
	for range count {
		var body []byte
		if body, data, err = takeStruct(data); err != nil {
			return nil, err
		}
		if len(body) < 8 {
			return nil, errShort
		}
		id, _, err := takeText(body[8:])
		if err != nil {
			return nil, err
		}
		images = append(images, groupImage{int64(binary.LittleEndian.Uint64(body)), id})
	}
	return images, nil
}

// removeSnapshots removes a group's snapshots, whole or cut off, with those of
// their images; what has clones lives on in the trash of its image.
func (g group) removeSnapshots() error {
	state, err := g.read()
	if err != nil {
		return err
	}
	for id, images := range state.snapshots {
		name := fmt.Sprintf(".group.%x_%s_%s", g.ref.PoolID, state.id, id)
		for _, image := range images {
			if err := g.removeMember(image, name); err != nil {
				return err
			}
		}
		if err := g.forgetSnapshot(state.id, id); err != nil {
			return err
		}
	}
	return nil
}

func (g group) forgetSnapshot(group, snapshot string) error {
	op := rados.CreateWriteOp()
	defer op.Release()
	op.AssertExists()
	op.Exec("rbd", "group_snap_remove", appendText(nil, snapshot))
	return ignoreNotFound(op.Operate(g.ioctx, groupHeader+group, rados.OperationNoFlag))
}

// removeMember removes an image's snapshot of a name, also from the image's trash.
// It is fine that either is gone.
func (g group) removeMember(image groupImage, name string) error {
	return g.conn.inPool(g.op, image.pool, g.ref.Namespace, func(ioctx *rados.IOContext) error {
		opened, err := rbd.OpenImageById(ioctx, image.id, rbd.NoSnapshot)
		if errors.Is(err, rbd.ErrNotFound) {
			if _, gone := readHeader(ioctx, image.id, noSnapshot); errors.Is(gone, rados.ErrNotFound) {
				return nil
			}
		}
		if err != nil {
			return err
		}
		return errors.Join(removeNamed(g.op, opened, name), opened.Close())
	})
}

func removeNamed(op string, image *rbd.Image, name string) error {
	snapshots, err := image.GetSnapshotNames()
	if err != nil {
		return err
	}
	for _, snapshot := range snapshots {
		trashed, was, err := identify(image, snapshot)
		if err != nil {
			return err
		}
		if was != name {
			continue
		}
		err = image.RemoveSnapByID(snapshot.Id)
		if err == nil || errors.Is(err, rbd.ErrNotFound) || trashed && ceph.KindOf(wrap(op, err)) == ceph.Busy {
			continue
		}
		return err
	}
	return nil
}

// identify returns whether a snapshot is in the image's trash, and the name that
// it was made with.
func identify(image *rbd.Image, snapshot rbd.SnapInfo) (trashed bool, name string, err error) {
	kind, err := image.GetSnapNamespaceType(snapshot.Id)
	if err != nil || kind != rbd.SnapNamespaceTypeTrash {
		return false, snapshot.Name, err
	}
	name, err = image.GetSnapTrashNamespace(snapshot.Id)
	return true, name, err
}
