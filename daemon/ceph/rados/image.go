package rados

import (
	"context"
	"encoding/binary"
	"errors"
	"io"
	"sort"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// PoolID returns the ID of a pool. It asks the mons for the newest OSD map
// first: in an older one a pool that was made anew still has its old ID.
func (c *conn) PoolID(ctx context.Context, name string) (int64, error) {
	op := "look up pool " + name
	return call(ctx, c, op, func() (int64, error) {
		if err := c.rados.WaitForLatestOSDMap(); err != nil {
			return 0, wrap(op, err)
		}
		id, err := c.rados.GetPoolByName(name)
		return id, wrap(op, err)
	})
}

// inPool opens the pool and namespace of an image for one operation.
func (c *conn) inPool(op string, ref ceph.ImageRef, f func(*rados.IOContext) error) error {
	ioctx, err := c.openPool(op, ref)
	if err != nil {
		return err
	}
	defer ioctx.Destroy()
	return wrap(op, f(ioctx))
}

func (c *conn) openPool(op string, ref ceph.ImageRef) (*rados.IOContext, error) {
	pool, err := c.rados.GetPoolByID(ref.PoolID)
	if errors.Is(err, rados.ErrNotFound) {
		if err := c.rados.WaitForLatestOSDMap(); err != nil {
			return nil, wrap(op, err)
		}
		pool, err = c.rados.GetPoolByID(ref.PoolID)
	}
	if err != nil {
		return nil, wrap(op, err)
	}
	ioctx, err := c.rados.OpenIOContext(pool)
	if err != nil {
		return nil, wrap(op, err)
	}
	ioctx.SetNamespace(ref.Namespace)
	return ioctx, nil
}

// CreateImage makes an image and its metadata: the create itself, one read of
// the image's ID and one write of all metadata.
func (c *conn) CreateImage(ctx context.Context, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	op := "create " + ref.String()
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref, func(ioctx *rados.IOContext) error {
			if err := create(ioctx, ref.Name, spec); err != nil || len(spec.Metadata) == 0 {
				return err
			}
			return setMetadata(ioctx, ref.Name, spec.Metadata)
		})
	})
}

func create(ioctx *rados.IOContext, name string, spec ceph.ImageSpec) error {
	features := spec.Features
	if len(features) == 0 {
		features = ceph.DefaultFeatures
	}
	options := rbd.NewRbdImageOptions()
	defer options.Destroy()
	if err := options.SetUint64(rbd.ImageOptionFeatures, uint64(rbd.FeatureSetFromNames(features))); err != nil {
		return err
	}
	return rbd.CreateImage(ioctx, name, uint64(spec.Size), options)
}

// setMetadata writes all keys in one operation on the image's header, where
// librbd's own call would open the image once for each key.
func setMetadata(ioctx *rados.IOContext, name string, metadata map[string]string) error {
	id, err := imageID(ioctx, name)
	if err != nil {
		return err
	}
	op := rados.CreateWriteOp()
	defer op.Release()
	op.Exec("rbd", "metadata_set", encodeMetadata(metadata))
	return op.Operate(ioctx, "rbd_header."+id, rados.OperationNoFlag)
}

// imageID reads the object that maps an image's name to its ID: a string with
// its length, little endian (src/librbd: util::id_obj_name).
func imageID(ioctx *rados.IOContext, name string) (string, error) {
	data := make([]byte, 256)
	n, err := ioctx.Read("rbd_id."+name, data, 0)
	if err != nil {
		return "", err
	}
	if n < 4 || int(binary.LittleEndian.Uint32(data))+4 > n {
		return "", ceph.Errorf(ceph.Unexpected, "read the ID of image "+name, "%d bytes do not hold an ID", n)
	}
	return string(data[4 : 4+binary.LittleEndian.Uint32(data)]), nil
}

// encodeMetadata encodes a map of string to bufferlist as Ceph does.
func encodeMetadata(metadata map[string]string) []byte {
	keys := make([]string, 0, len(metadata))
	for key := range metadata {
		keys = append(keys, key)
	}
	sort.Strings(keys)
	out := binary.LittleEndian.AppendUint32(nil, uint32(len(keys)))
	for _, key := range keys {
		for _, text := range []string{key, metadata[key]} {
			out = binary.LittleEndian.AppendUint32(out, uint32(len(text)))
			out = append(out, text...)
		}
	}
	return out
}

// SetImageMetadata sets keys of an image's metadata and leaves the others.
func (c *conn) SetImageMetadata(ctx context.Context, ref ceph.ImageRef, metadata map[string]string) error {
	op := "set metadata of " + ref.String()
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref, func(ioctx *rados.IOContext) error { return setMetadata(ioctx, ref.Name, metadata) })
	})
}

// ImageInfo returns what an image is.
func (c *conn) ImageInfo(ctx context.Context, ref ceph.ImageRef) (*ceph.ImageInfo, error) {
	op := "look at " + ref.String()
	return call(ctx, c, op, func() (info *ceph.ImageInfo, err error) {
		err = c.inPool(op, ref, func(ioctx *rados.IOContext) error {
			image, err := rbd.OpenImageReadOnly(ioctx, ref.Name, rbd.NoSnapshot)
			if err != nil {
				return err
			}
			info, err = describe(image)
			return errors.Join(err, image.Close())
		})
		return info, err
	})
}

func describe(image *rbd.Image) (*ceph.ImageInfo, error) {
	size, err := image.GetSize()
	if err != nil {
		return nil, err
	}
	features, err := image.GetFeatures()
	if err != nil {
		return nil, err
	}
	metadata, err := image.ListMetadata()
	if err != nil {
		return nil, err
	}
	watchers, err := image.ListWatchers()
	if err != nil {
		return nil, err
	}
	id, err := image.GetId()
	if err != nil {
		return nil, err
	}
	set := rbd.FeatureSet(features)
	info := &ceph.ImageInfo{ID: id, Size: int64(size), Features: set.Names(), Metadata: metadata}
	for _, watcher := range watchers {
		info.Watchers = append(info.Watchers, watcher.Addr)
	}
	return info, nil
}

// GrowImage makes an image at least size bytes long.
func (c *conn) GrowImage(ctx context.Context, ref ceph.ImageRef, size int64) error {
	op := "grow " + ref.String()
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref, func(ioctx *rados.IOContext) error {
			image, err := rbd.OpenImage(ioctx, ref.Name, rbd.NoSnapshot)
			if err != nil {
				return err
			}
			return errors.Join(grow(image, size), image.Close())
		})
	})
}

func grow(image *rbd.Image, size int64) error {
	now, err := image.GetSize()
	if err != nil || int64(now) >= size {
		return err
	}
	return image.Resize(uint64(size))
}

// RemoveImage deletes an image.
func (c *conn) RemoveImage(ctx context.Context, ref ceph.ImageRef) error {
	op := "remove " + ref.String()
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref, func(ioctx *rados.IOContext) error { return rbd.RemoveImage(ioctx, ref.Name) })
	})
}

// OpenImage opens an image for I/O.
func (c *conn) OpenImage(ctx context.Context, ref ceph.ImageRef, options ceph.OpenOptions) (ceph.Image, error) {
	op := "open " + ref.String()
	return call(ctx, c, op, func() (ceph.Image, error) {
		ioctx, err := c.openPool(op, ref)
		if err != nil {
			return nil, err
		}
		opened, err := openImage(ioctx, ref.Name, options)
		if err != nil {
			ioctx.Destroy()
			return nil, wrap(op, err)
		}
		return &image{rbd: opened, ioctx: ioctx, op: ref.String()}, nil
	})
}

func openImage(ioctx *rados.IOContext, name string, options ceph.OpenOptions) (*rbd.Image, error) {
	if options.ReadOnly {
		return rbd.OpenImageReadOnly(ioctx, name, rbd.NoSnapshot)
	}
	opened, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil || !options.Exclusive {
		return opened, err
	}
	if err := opened.LockAcquire(rbd.LockModeExclusive); err != nil {
		return nil, errors.Join(err, opened.Close())
	}
	return opened, nil
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
