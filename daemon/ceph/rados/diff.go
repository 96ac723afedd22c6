package rados

import (
	"context"
	"errors"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Diff calls f with the extents that differ between two snapshots of one image.
func (c *conn) Diff(ctx context.Context, base *ceph.SnapshotRef, target ceph.SnapshotRef, offset int64, f func(ceph.Extent) error) error {
	op := "diff to " + target.String()
	d := &differ{op: op, base: base, target: target, offset: offset, f: f, report: newReport(ctx)}
	defer d.report.end()
	err := c.run(ctx, op, func() error { return c.inPool(op, target.PoolID, target.Namespace, d.run) })
	if mine := d.report.failed(); mine != nil && ctx.Err() == nil {
		return mine
	}
	return err
}

type differ struct {
	op     string
	base   *ceph.SnapshotRef
	target ceph.SnapshotRef
	offset int64
	f      func(ceph.Extent) error
	report *report
}

func (d *differ) run(ioctx *rados.IOContext) error {
	header, err := readHeader(ioctx, d.target.ImageID, d.target.SnapID)
	if err != nil {
		return err
	}
	image, err := rbd.OpenImageByIdReadOnly(ioctx, d.target.ImageID, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	return errors.Join(d.iterate(image, header), image.Close())
}

func (d *differ) iterate(image *rbd.Image, header *header) error {
	from := uint64(0)
	if d.base != nil {
		if d.base.ImageID != d.target.ImageID || d.base.SnapID > d.target.SnapID {
			return ceph.Errorf(ceph.Invalid, d.op, "%s is no earlier snapshot of the same image", d.base)
		}
		if from = d.base.SnapID; from == d.target.SnapID {
			return nil
		}
		if err := visible(image, from); err != nil {
			return err
		}
	}
	if err := visible(image, d.target.SnapID); err != nil {
		return err
	}
	if err := image.SetSnapByID(d.target.SnapID); err != nil {
		return err
	}
	skip := headerSize(header.metadata)
	// From the middle of an object librbd tells less well what is a hole: begin
	// with the whole object.
	begin := min(d.offset+skip, header.size) / header.object * header.object
	return image.DiffIterateByID(rbd.DiffIterateByIDConfig{
		FromSnapID: from, Offset: uint64(begin), Length: uint64(header.size - begin), IncludeParent: rbd.IncludeParent,
		Callback: func(offset, length uint64, exists int, _ any) int {
			return d.report.do(func() error { return d.add(int64(offset)-skip, int64(length), exists == 0) })
		},
	})
}

// add passes on what of an extent is at the offset asked for or after it.
func (d *differ) add(offset, length int64, zero bool) error {
	begin, end := max(offset, d.offset), offset+length
	if begin >= end {
		return nil
	}
	return d.f(ceph.Extent{Offset: begin, Length: end - begin, Zero: zero})
}

// visible fails for a snapshot that is gone or in the trash.
func visible(image *rbd.Image, id uint64) error {
	kind, err := image.GetSnapNamespaceType(id)
	if err == nil && kind != rbd.SnapNamespaceTypeUser && kind != rbd.SnapNamespaceTypeGroup {
		err = rbd.ErrNotFound
	}
	return err
}
