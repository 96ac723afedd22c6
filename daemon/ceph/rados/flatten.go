package rados

/*
#cgo LDFLAGS: -lrbd
#include <rbd/librbd.h>

extern int cairnFlattened(uint64_t done, uint64_t total, uintptr_t step);

static int cairn_flatten_step(uint64_t done, uint64_t total, void *step) {
	return cairnFlattened(done, total, (uintptr_t)step);
}

// A negative answer of the step has librbd stop.
static inline int cairn_flatten(rbd_image_t image, uintptr_t step) {
	return rbd_flatten_with_progress(image, cairn_flatten_step, (void *)step);
}
*/
import "C"

import (
	"context"
	"encoding/binary"
	"errors"
	"runtime/cgo"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// FlattenImage copies what a clone shares with its parent, and cuts the tie.
func (c *conn) FlattenImage(ctx context.Context, ref ceph.ImageRef, progress func(done, total uint64)) error {
	report := newReport(ctx)
	defer report.end()
	return c.on(ctx, "flatten "+ref.String(), ref, func(ioctx *rados.IOContext) error {
		image, err := rbd.OpenImage(ioctx, ref.Name, rbd.NoSnapshot)
		if err != nil {
			return err
		}
		return errors.Join(flatten(ioctx, image, report, progress), image.Close())
	})
}

func flatten(ioctx *rados.IOContext, image *rbd.Image, report *report, progress func(done, total uint64)) error {
	parent, err := parentOf(image)
	if err != nil || parent == nil {
		return err
	}
	id, err := image.GetId()
	if err != nil {
		return err
	}
	if err := changeMetadata(ioctx, id, map[string]string{flattenKey: id}, nil); err != nil {
		return err
	}
	step := cgo.NewHandle(func(done, total uint64) int {
		return report.do(func() error {
			if progress != nil {
				progress(done, total)
			}
			return nil
		})
	})
	defer step.Delete()
	if err := failed(C.cairn_flatten(handle(image), C.uintptr_t(step))); err != nil {
		return errors.Join(report.failed(), err)
	}
	return nil
}

//export cairnFlattened
func cairnFlattened(done, total C.uint64_t, step C.uintptr_t) C.int {
	return C.int(cgo.Handle(step).Value().(func(done, total uint64) int)(uint64(done), uint64(total)))
}

// whole runs f on an image, and once more after untie.
func (c *conn) whole(op string, ioctx *rados.IOContext, name string, f func() error) error {
	err := f()
	if ceph.KindOf(wrap(op, err)) != ceph.NotFound {
		return err
	}
	untied, lookErr := c.untie(op, ioctx, name)
	if lookErr != nil {
		return lookErr
	}
	if !untied {
		return err
	}
	return f()
}

// untie ends the tie of a clone to a parent that is gone, and reports whether there
// was one. librbd cuts the parent's side first when it has copied all data, and
// with it goes a removed snapshot that had no other clone. Cut off there, the
// clone has its data and cannot be opened. Of an image that no flatten was begun
// on, or whose parent's pool is gone, data may be missing: that stays an error.
func (c *conn) untie(op string, ioctx *rados.IOContext, name string) (bool, error) {
	id, now, err := headerOf(ioctx, name)
	if err != nil || now.metadata[flattenKey] != id {
		return false, ignoreNotFound(err)
	}
	parent, err := tieOf(ioctx, id)
	if err != nil || parent == nil {
		return false, err
	}
	gone := false
	err = c.inPool(op, parent.PoolID, parent.Namespace, func(ioctx *rados.IOContext) error {
		_, err := readHeader(ioctx, parent.ImageID, parent.SnapID)
		gone = errors.Is(err, rados.ErrNotFound)
		return ignoreNotFound(err)
	})
	if err != nil || !gone {
		return false, err
	}
	detach := rados.CreateWriteOp()
	defer detach.Release()
	detach.Exec("rbd", "parent_detach", nil)
	return true, ignoreNotFound(detach.Operate(ioctx, headerObject+id, rados.OperationNoFlag))
}

// tieOf reads which snapshot an image's header says that it is a clone of; nil for
// none.
func tieOf(ioctx *rados.IOContext, id string) (*ceph.SnapshotRef, error) {
	op := rados.CreateReadOp()
	defer op.Release()
	get := op.Exec("rbd", "parent_get", nil)
	if err := op.Operate(ioctx, headerObject+id, rados.OperationNoFlag); err != nil {
		return nil, err
	}
	raw, err := get.Bytes()
	if err != nil {
		return nil, err
	}
	data, _, err := takeStruct(raw)
	if err != nil || len(data) < 8 {
		return nil, errors.Join(err, errShort)
	}
	parent := &ceph.SnapshotRef{PoolID: int64(binary.LittleEndian.Uint64(data))}
	if parent.PoolID < 0 {
		return nil, nil
	}
	if parent.Namespace, data, err = takeText(data[8:]); err != nil {
		return nil, err
	}
	if parent.ImageID, data, err = takeText(data); err != nil || len(data) < 8 {
		return nil, errors.Join(err, errShort)
	}
	parent.SnapID = binary.LittleEndian.Uint64(data)
	return parent, nil
}
