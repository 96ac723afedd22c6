package rados

import (
	"context"
	"errors"
	"io"
	"slices"

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
	if err := prepare(ioctx, opened, options); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
}

func prepare(ioctx *rados.IOContext, opened *rbd.Image, options ceph.OpenOptions) error {
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
	if options.ReadOnly || options.Snapshot != 0 {
		return nil
	}
	if options.Exclusive {
		if err := opened.LockAcquire(rbd.LockModeExclusive); err != nil {
			return err
		}
	}
	return seeSnapshots(ioctx, opened)
}

// seeSnapshots makes sure that who is going to write to an image knows all of its
// snapshots: writes would change those that it does not know. librbd reads them
// before it watches the header, and is told of none that is made between the two.
func seeSnapshots(ioctx *rados.IOContext, opened *rbd.Image) error {
	id, err := opened.GetId()
	if err != nil {
		return err
	}
	if known, err := knowsSnapshots(ioctx, id, opened); known || err != nil {
		return err
	}
	_, _, notified := ioctx.NotifyWithTimeout(headerObject+id, headerUpdate(), answerTime)
	if known, err := knowsSnapshots(ioctx, id, opened); known || err != nil {
		return err
	}
	return errors.Join(ceph.Errorf(ceph.Busy, "open image "+id, "its snapshots change, and the client does not see them all"), notified)
}

// knowsSnapshots reports whether an open image knows all the snapshots that its
// header has. One that it knows and that was removed does no harm.
func knowsSnapshots(ioctx *rados.IOContext, id string, opened *rbd.Image) (bool, error) {
	there, err := readSnapshots(ioctx, id)
	if err != nil {
		return false, err
	}
	known, err := opened.GetSnapshotNames()
	return !slices.ContainsFunc(there, func(snap uint64) bool {
		return !slices.ContainsFunc(known, func(s rbd.SnapInfo) bool { return s.Id == snap })
	}), err
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
