package rados

import (
	"context"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// CloneImage makes an image that begins as a snapshot is.
func (c *conn) CloneImage(ctx context.Context, parent ceph.SnapshotRef, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	op := "clone " + parent.String() + " to " + ref.String()
	return c.on(ctx, op, ref, func(to *rados.IOContext) error {
		return c.inPool(op, parent.PoolID, parent.Namespace, func(from *rados.IOContext) error {
			return c.clone(op, from, parent, to, ref.Name, spec)
		})
	})
}

func (c *conn) clone(op string, from *rados.IOContext, parent ceph.SnapshotRef, to *rados.IOContext, name string, spec ceph.ImageSpec) error {
	if err := to.SetPoolFullTry(); err != nil {
		return err
	}
	begin, err := readHeader(from, parent.ImageID, parent.SnapID)
	if err != nil {
		return err
	}
	if err := plainOnly(op, headerSize(begin.metadata) > 0, spec); err != nil {
		return err
	}
	size := spec.Size + headerSize(begin.metadata)
	if size < begin.size {
		return ceph.Errorf(ceph.Invalid, op, "%d bytes are fewer than the snapshot's %d", spec.Size, begin.size-headerSize(begin.metadata))
	}
	image, err := imageName(from, parent.ImageID)
	if err != nil {
		return err
	}
	options, err := imageOptions(spec)
	if err != nil {
		return err
	}
	defer options.Destroy()
	if err := options.SetUint64(rbd.ImageOptionCloneFormat, 2); err != nil {
		return err
	}
	err = c.anew(to, name, cutOffClone(parent, begin.size), func() error {
		return rbd.CloneImageByID(from, image, parent.SnapID, to, name, options)
	})
	if err != nil {
		return err
	}
	if size > begin.size {
		if err := resize(to, name, size); err != nil {
			return err
		}
	}
	id, err := imageID(to, name)
	if err != nil {
		return err
	}
	return changeMetadata(to, id, own(id, spec.Metadata), foreign(begin.metadata))
}
