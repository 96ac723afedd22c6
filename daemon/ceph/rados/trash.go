package rados

import (
	"errors"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// librbd moves an image to the pool's trash while it removes it. A removal that was
// cut off leaves it there, where no name leads to it, and librbd's own list of the
// trash leaves it out.
const (
	trashObject = "rbd_trash"
	trashKey    = "id_" // + the image's ID
	// trashRemoving is the origin of what is there to be removed (cls_rbd_types.h).
	trashRemoving = 3
)

// removing returns the names after one, in order, of images whose removal was
// begun: they are hidden, whatever their names were.
func removing(ioctx *rados.IOContext, after string) ([]string, error) {
	entries, err := ioctx.GetAllOmapValues(trashObject, "", trashKey, 1000)
	if err != nil {
		return nil, ignoreNotFound(err)
	}
	var names []string
	for key, entry := range entries {
		body, _, err := takeStruct(entry)
		if err != nil || len(body) == 0 {
			return nil, errors.Join(err, errShort)
		}
		if name := ceph.HiddenPrefix + strings.TrimPrefix(key, trashKey); body[0] == trashRemoving && name > after {
			names = append(names, name)
		}
	}
	slices.Sort(names)
	return names, nil
}

// remove removes an image, or goes on with the removal of a hidden one.
func remove(ioctx *rados.IOContext, name string) error {
	id, hidden := strings.CutPrefix(name, ceph.HiddenPrefix)
	if !hidden {
		return rbd.RemoveImage(ioctx, name)
	}
	opened, err := openHidden(ioctx, name, id)
	if err == nil {
		err = errors.Join(shrink(opened), opened.Close())
	}
	if err != nil && !errors.Is(err, errGone) {
		return err
	}
	err = rbd.RemoveImage(ioctx, name)
	if !errors.Is(err, rbd.ErrNotFound) {
		return err
	}
	return rbd.TrashRemove(ioctx, id, true)
}

// errGone is of a hidden image whose data is gone, though something of it may be left.
var errGone = errors.New("has no data")

// openHidden opens an image that the pool's directory has by its hidden name, or
// that librbd began to remove. One that still has its own name is not hidden, though
// its ID leads to it: it is somebody's volume.
func openHidden(ioctx *rados.IOContext, name, id string) (*rbd.Image, error) {
	is, err := imageName(ioctx, id)
	switch {
	case err == nil && is != name:
		return nil, rbd.ErrNotFound
	case errors.Is(err, rados.ErrNotFound):
		begun, err := removing(ioctx, "")
		if err != nil {
			return nil, err
		}
		if !slices.Contains(begun, name) {
			return nil, errGone
		}
	case err != nil:
		return nil, err
	}
	opened, err := rbd.OpenImageById(ioctx, id, rbd.NoSnapshot)
	if errors.Is(err, rbd.ErrNotFound) {
		return nil, errGone
	}
	return opened, err
}

// shrink removes the data of a hidden image that nobody needs. librbd's removal goes
// on when objects could not be removed, for an answer that came too late, and leaves
// what nobody finds again; its resize does not.
func shrink(opened *rbd.Image) error {
	snapshots, err := opened.GetSnapshotNames()
	if err != nil {
		return err
	}
	watchers, err := opened.ListWatchers()
	if err != nil {
		return err
	}
	if len(snapshots) > 0 || len(watchers) > 1 { // this client is one
		return ceph.Errorf(ceph.Busy, "remove the image's data", "it has %d snapshots, and is open in %d clients", len(snapshots), len(watchers)-1)
	}
	size, err := opened.GetSize()
	if err != nil || size == 0 {
		return err
	}
	return opened.Resize(0)
}

// withRemoving adds the images whose removal was begun to a list of up to limit names.
func withRemoving(ioctx *rados.IOContext, names []string, after string, limit int) ([]string, error) {
	begun, err := removing(ioctx, after)
	if err != nil || len(begun) == 0 {
		return names, err
	}
	all := slices.Compact(slices.Sorted(slices.Values(slices.Concat(names, begun))))
	return all[:min(limit, len(all))], nil
}
