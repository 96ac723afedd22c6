package rados

import (
	"context"
	"errors"
	"strings"
	"time"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// HideImage renames an image to HiddenPrefix and its ID: what librbd does, in five
// operations. Cut short anywhere, a repeat goes on: the old name leads to the
// image until all else is done.
func (c *conn) HideImage(ctx context.Context, ref ceph.ImageRef) error {
	op := "hide " + ref.String()
	return c.on(ctx, op, ref, func(ioctx *rados.IOContext) error {
		id, err := imageID(ioctx, ref.Name)
		if err != nil {
			return err
		}
		if err := unwatched(op, ioctx, id); err != nil {
			return dropStale(ioctx, id, ref.Name, err)
		}
		if strings.HasPrefix(ref.Name, ceph.HiddenPrefix) {
			return nil
		}
		return rename(ioctx, id, ref.Name, ceph.HiddenPrefix+id)
	})
}

// answerTime is how long a client that has an image open may take to say so.
const answerTime = 5 * time.Second

// unwatched fails when a client has the image open: who watches its header
// answers a notification, or is missed.
func unwatched(op string, ioctx *rados.IOContext, id string) error {
	answers, missed, err := ioctx.NotifyWithTimeout(headerObject+id, headerUpdate(), answerTime)
	if open := len(answers) + len(missed); open > 0 {
		return ceph.Errorf(ceph.Busy, op, "open in %d clients", open)
	}
	return err
}

// dropStale removes the old name of an image that was hidden by a call that was
// cut short, and is gone by now.
func dropStale(ioctx *rados.IOContext, id, name string, err error) error {
	if !errors.Is(err, rados.ErrNotFound) {
		return err
	}
	if _, unknown := imageName(ioctx, id); !errors.Is(unknown, rados.ErrNotFound) {
		return err
	}
	return errors.Join(err, ioctx.Delete(idObject+name))
}

// rename gives an image a new name, which names its ID already or is free.
func rename(ioctx *rados.IOContext, id, from, to string) error {
	if err := nameImage(ioctx, id, to); err != nil {
		return err
	}
	err := renameInDirectory(ioctx, id, from, to)
	if err != nil {
		now, unknown := imageName(ioctx, id)
		switch {
		case unknown == nil && now == to: // an earlier call came this far
			err = nil
		case errors.Is(unknown, rados.ErrNotFound): // and the image was removed since
			err = errors.Join(unknown, ioctx.Delete(idObject+to))
		default:
			return err
		}
	}
	return errors.Join(err, ioctx.Delete(idObject+from))
}

// nameImage makes the object that leads from a name to an image's ID.
func nameImage(ioctx *rados.IOContext, id, name string) error {
	op := rados.CreateWriteOp()
	defer op.Release()
	op.Create(rados.CreateExclusive)
	op.Exec("rbd", "set_id", appendText(nil, id))
	err := op.Operate(ioctx, idObject+name, rados.OperationNoFlag)
	if !errors.Is(err, rados.ErrObjectExists) {
		return err
	}
	if now, unknown := imageID(ioctx, name); unknown != nil || now != id {
		return err
	}
	return nil
}

func renameInDirectory(ioctx *rados.IOContext, id, from, to string) error {
	op := rados.CreateWriteOp()
	defer op.Release()
	op.Exec("rbd", "dir_rename_image", appendText(appendText(appendText(nil, from), to), id))
	return op.Operate(ioctx, directoryObject, rados.OperationNoFlag)
}
