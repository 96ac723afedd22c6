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
		return errors.Join(flatten(image, report, progress), image.Close())
	})
}

func flatten(image *rbd.Image, report *report, progress func(done, total uint64)) error {
	parent, err := parentOf(image)
	if err != nil || parent == nil {
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
