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
// cut off leaves it there, where no name leads to it.

// removing returns the names after one, in order, of hidden images whose removal
// was begun.
func removing(ioctx *rados.IOContext, after string) ([]string, error) {
	trash, err := rbd.GetTrashList(ioctx)
	if err != nil && !errors.Is(err, rbd.ErrNotFound) {
		return nil, err
	}
	var names []string
	for _, entry := range trash {
		if strings.HasPrefix(entry.Name, ceph.HiddenPrefix) && entry.Name > after {
			names = append(names, entry.Name)
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
