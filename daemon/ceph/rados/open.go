package rados

import (
	"context"
	"errors"
	"io"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// OpenImage opens an image for I/O.
func (c *conn) OpenImage(ctx context.Context, ref ceph.ImageRef, options ceph.OpenOptions) (ceph.Image, error) {
	op := "open " + ref.String()
	return call(ctx, c, op, func() (ceph.Image, error) {
		ioctx, err := c.openPool(op, ref.PoolID, ref.Namespace)
		if err != nil {
			return nil, err
		}
		var opened *rbd.Image
		err = c.whole(op, ioctx, ref.Name, func() error {
			opened, err = openImage(ioctx, ref.Name, options)
			return err
		})
		if err != nil {
			ioctx.Destroy()
			return nil, wrap(op, err)
		}
		return &image{rbd: opened, ioctx: ioctx, op: ref.String()}, nil
	})
}

func openImage(ioctx *rados.IOContext, name string, options ceph.OpenOptions) (*rbd.Image, error) {
	open := rbd.OpenImage
	if options.ReadOnly || options.Snapshot != 0 {
		open = rbd.OpenImageReadOnly
	}
	opened, err := open(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return nil, err
	}
	if err := prepare(opened, options); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func prepare(opened *rbd.Image, options ceph.OpenOptions) error {
	if options.Snapshot != 0 {
		if err := visible(opened, options.Snapshot); err != nil {
			return err
		}
		if err := opened.SetSnapByID(options.Snapshot); err != nil {
			return err
		}
	}
	if err := unlock(opened, options.Passphrase); err != nil {
		return err
	}
	if !options.Exclusive || options.ReadOnly || options.Snapshot != 0 {
		return nil
	}
	return opened.LockAcquire(rbd.LockModeExclusive)
}

type image struct {
	rbd   *rbd.Image
	ioctx *rados.IOContext
	op    string
}

func (i *image) ReadAt(data []byte, offset int64) (int, error) {
	n, err := i.rbd.ReadAt(data, offset)
	if errors.Is(err, io.EOF) {
		return n, err
	}
	return n, wrap("read "+i.op, err)
}

func (i *image) WriteAt(data []byte, offset int64) (int, error) {
	n, err := i.rbd.WriteAt(data, offset)
	return n, wrap("write "+i.op, err)
}

func (i *image) Size() (int64, error) {
	size, err := i.rbd.GetSize()
	return int64(size), wrap("size of "+i.op, err)
}

func (i *image) Flush() error { return wrap("flush "+i.op, i.rbd.Flush()) }

func (i *image) Discard(offset, length int64) error {
	_, err := i.rbd.Discard(uint64(offset), uint64(length))
	return wrap("discard "+i.op, err)
}

// zeroes is the pattern of WriteZeroes; librbd wants a length that is a multiple of it.
var zeroes = make([]byte, 512)

func (i *image) WriteZeroes(offset, length int64) error {
	_, err := i.rbd.WriteSame(uint64(offset), uint64(length), zeroes, rados.OpFlagNone)
	return wrap("write zeroes to "+i.op, err)
}

func (i *image) Close() error {
	err := i.rbd.Close()
	i.ioctx.Destroy()
	return wrap("close "+i.op, err)
}
