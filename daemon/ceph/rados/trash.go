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
	err := rbd.RemoveImage(ioctx, name)
	id, hidden := strings.CutPrefix(name, ceph.HiddenPrefix)
	if !hidden || !errors.Is(err, rbd.ErrNotFound) {
		return err
	}
	return rbd.TrashRemove(ioctx, id, true)
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
