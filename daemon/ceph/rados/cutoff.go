package rados

import (
	"errors"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// librbd makes an image in several operations: the name, its entry in the
// directory, the header, and of a clone the ties to and from its parent. When its
// process dies between two of them, the name is taken by what nobody can open, or
// by a clone that its parent does not know of and would not keep its data for.

// abandonedAfter is longer than a create goes on whose caller gave up: each of its
// few operations ends within the timeout.
func abandonedAfter(timeout time.Duration) time.Duration {
	if timeout == 0 {
		return time.Minute
	}
	return 3 * timeout
}

// anew makes an image. Where the name is taken by one that was cut off, and nobody
// can be at work on that any more, it is removed first. Until then it exists, or is
// busy if one could take it for whole.
func (c *conn) anew(ioctx *rados.IOContext, name string, cutOff func(*rados.IOContext, string) (bool, error), create func() error) error {
	err := create()
	if ceph.KindOf(wrap("create", err)) != ceph.Exists {
		return err
	}
	if dropped, dropErr := dropEntry(ioctx, name); dropped || dropErr != nil {
		if dropErr != nil {
			return errors.Join(err, dropErr)
		}
		return create()
	}
	dead, lookErr := cutOff(ioctx, name)
	if lookErr != nil || !dead {
		return err
	}
	begun, statErr := ioctx.Stat(idObject + name)
	if statErr != nil {
		return err
	}
	if age := time.Since(begun.ModTime); age < c.abandoned {
		if nothing, lookErr := headless(ioctx, name); nothing || lookErr != nil {
			return err
		}
		return ceph.Errorf(ceph.Busy, "make image "+name, "an earlier call is making it, or was cut off: then it is made anew in %s", (c.abandoned - age).Round(time.Second))
	}
	if gone := scrap(ioctx, name); gone != nil && !errors.Is(gone, rbd.ErrNotFound) {
		return errors.Join(err, gone)
	}
	return create()
}

// scrap removes an image that was cut off. One that has a header is hidden first:
// when this is cut off too, it is found by that name, in the trash as well.
func scrap(ioctx *rados.IOContext, name string) error {
	if nothing, err := headless(ioctx, name); nothing || err != nil {
		return errors.Join(err, rbd.RemoveImage(ioctx, name))
	}
	id, err := imageID(ioctx, name)
	if err != nil {
		return err
	}
	hidden := ceph.HiddenPrefix + id
	if err := rename(ioctx, id, name, hidden); err != nil {
		return err
	}
	return remove(ioctx, hidden)
}

// dropEntry removes a name from the directory that leads to nothing, neither to an
// ID nor to a header: a removal was cut off, or goes on and has that left to do.
// A create makes the ID first.
func dropEntry(ioctx *rados.IOContext, name string) (bool, error) {
	if _, err := imageID(ioctx, name); !errors.Is(err, rados.ErrNotFound) {
		return false, err
	}
	id, err := lookUp(ioctx, directoryObject, nameKey+name)
	if err == nil {
		_, err = readHeader(ioctx, id, noSnapshot)
		if err == nil {
			return false, nil
		}
	}
	if id == "" || !errors.Is(err, rados.ErrNotFound) {
		return false, ignoreNotFound(err)
	}
	op := rados.CreateWriteOp()
	defer op.Release()
	op.Exec("rbd", "dir_remove_image", appendText(appendText(nil, name), id))
	return true, ignoreNotFound(op.Operate(ioctx, directoryObject, rados.OperationNoFlag))
}

func ignoreNotFound(err error) error {
	if errors.Is(err, rados.ErrNotFound) {
		return nil
	}
	return err
}

// headless reports whether a name leads to no image.
func headless(ioctx *rados.IOContext, name string) (bool, error) {
	_, _, err := headerOf(ioctx, name)
	if errors.Is(err, rados.ErrNotFound) {
		return true, nil
	}
	return false, err
}

// cutOffClone reports whether a name leads to no image, or to a clone of a
// snapshot that did not come to have its own metadata. Without a parent it is as
// large as the snapshot, has no metadata at all and holds no data.
func cutOffClone(parent ceph.SnapshotRef, size int64) func(*rados.IOContext, string) (bool, error) {
	return func(ioctx *rados.IOContext, name string) (bool, error) {
		if dead, err := headless(ioctx, name); dead || err != nil {
			return dead, err
		}
		image, err := rbd.OpenImageReadOnly(ioctx, name, rbd.NoSnapshot)
		if err != nil {
			return false, err
		}
		dead, err := untied(image, parent, size)
		return dead, errors.Join(err, image.Close())
	}
}

func untied(image *rbd.Image, parent ceph.SnapshotRef, size int64) (bool, error) {
	id, err := image.GetId()
	if err != nil {
		return false, err
	}
	metadata, err := image.ListMetadata()
	if err != nil || metadata[ownerKey] == id {
		return false, err
	}
	tie, err := parentOf(image)
	if err != nil || tie != nil {
		return tie != nil && *tie == parent, err
	}
	now, err := image.GetSize()
	if err != nil || int64(now) != size || len(metadata) > 0 {
		return false, err
	}
	return holdsNothing(image, now)
}

func holdsNothing(image *rbd.Image, size uint64) (bool, error) {
	empty := true
	err := image.DiffIterate(rbd.DiffIterateConfig{Length: size, WholeObject: rbd.EnableWholeObject, IncludeParent: rbd.ExcludeParent,
		Callback: func(_, _ uint64, _ int, _ interface{}) int {
			empty = false
			return 0
		}})
	return empty, err
}
