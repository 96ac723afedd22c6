package rados

import (
	"context"
	"errors"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// CreateImage makes an image and its metadata: the create itself, one read of
// the image's ID and one write of all metadata.
func (c *conn) CreateImage(ctx context.Context, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	if err := plainOnly("create "+ref.String(), spec.Passphrase != "", spec); err != nil {
		return err
	}
	return c.on(ctx, "create "+ref.String(), ref, func(ioctx *rados.IOContext) error {
		if err := ioctx.SetPoolFullTry(); err != nil { // a full pool answers, in place of waiting
			return err
		}
		if spec.Passphrase != "" {
			return c.createEncrypted(ioctx, ref.Name, spec)
		}
		err := c.anew(ioctx, ref.Name, headless, func() error { return create(ioctx, ref.Name, spec, spec.Size) })
		if err != nil {
			return err
		}
		id, err := imageID(ioctx, ref.Name)
		if err != nil {
			return err
		}
		return changeMetadata(ioctx, id, own(id, spec.Metadata), nil)
	})
}

func create(ioctx *rados.IOContext, name string, spec ceph.ImageSpec, size int64) error {
	options, err := imageOptions(spec)
	if err != nil {
		return err
	}
	defer options.Destroy()
	return rbd.CreateImage(ioctx, name, uint64(size), options)
}

func imageOptions(spec ceph.ImageSpec) (*rbd.ImageOptions, error) {
	features := spec.Features
	if len(features) == 0 {
		features = ceph.DefaultFeatures
	}
	options := rbd.NewRbdImageOptions()
	err := options.SetUint64(rbd.ImageOptionFeatures, uint64(rbd.FeatureSetFromNames(features)))
	if err == nil && spec.DataPool != "" {
		err = options.SetString(rbd.ImageOptionDataPool, spec.DataPool)
	}
	if err != nil {
		options.Destroy()
		return nil, err
	}
	return options, nil
}

// ImageInfo returns what an image is.
func (c *conn) ImageInfo(ctx context.Context, ref ceph.ImageRef) (*ceph.ImageInfo, error) {
	op := "look at " + ref.String()
	return in(ctx, c, op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) (info *ceph.ImageInfo, err error) {
		err = c.whole(op, ioctx, ref.Name, func() error {
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
	id, err := image.GetId()
	if err != nil {
		return nil, err
	}
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
	parent, err := parentOf(image)
	if err != nil {
		return nil, err
	}
	set := rbd.FeatureSet(features)
	info := &ceph.ImageInfo{ID: id, Size: int64(size) - headerSize(metadata), Features: set.Names(), Parent: parent, Metadata: map[string]string{}}
	_, info.Encrypted = metadata[encryptionKey]
	for _, watcher := range watchers {
		info.Watchers = append(info.Watchers, watcher.Addr)
	}
	if !inherited(id, metadata) {
		info.Limits = limitsOf(metadata)
		for key, value := range metadata {
			if !internal(key) {
				info.Metadata[key] = value
			}
		}
	}
	return info, nil
}

func parentOf(image *rbd.Image) (*ceph.SnapshotRef, error) {
	parent, err := image.GetParent()
	if errors.Is(err, rbd.ErrNotFound) {
		return nil, nil
	}
	if err != nil {
		return nil, err
	}
	return &ceph.SnapshotRef{PoolID: int64(parent.Image.PoolID), Namespace: parent.Image.PoolNamespace, ImageID: parent.Image.ImageID, SnapID: parent.Snap.ID}, nil
}

// ListImages returns names of images in order, after a name.
func (c *conn) ListImages(ctx context.Context, poolID int64, namespace, after string, limit int) ([]string, error) {
	return in(ctx, c, "list images", poolID, namespace, func(ioctx *rados.IOContext) ([]string, error) {
		names, err := listNames(ioctx, after, limit)
		if err != nil {
			return nil, err
		}
		return withRemoving(ioctx, names, after, limit)
	})
}

// SetImageMetadata sets keys of an image's metadata and leaves the others, but
// for those that a clone was born with.
func (c *conn) SetImageMetadata(ctx context.Context, ref ceph.ImageRef, metadata map[string]string) error {
	return c.on(ctx, "set metadata of "+ref.String(), ref, func(ioctx *rados.IOContext) error {
		id, now, err := headerOf(ioctx, ref.Name)
		if err != nil {
			return err
		}
		var remove []string
		if inherited(id, now.metadata) {
			remove = foreign(now.metadata)
		}
		return changeMetadata(ioctx, id, own(id, metadata), remove)
	})
}

// GrowImage makes an image at least size bytes long.
func (c *conn) GrowImage(ctx context.Context, ref ceph.ImageRef, size int64) error {
	return c.on(ctx, "grow "+ref.String(), ref, func(ioctx *rados.IOContext) error {
		_, now, err := headerOf(ioctx, ref.Name)
		if err != nil {
			return err
		}
		if size += headerSize(now.metadata); now.size >= size {
			return nil
		}
		return resize(ioctx, ref.Name, size)
	})
}

// resize makes an image at least size raw bytes long.
func resize(ioctx *rados.IOContext, name string, size int64) error {
	image, err := rbd.OpenImage(ioctx, name, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	now, err := image.GetSize()
	if err == nil && int64(now) < size {
		err = image.Resize(uint64(size))
	}
	return errors.Join(err, image.Close())
}

// RemoveImage deletes an image.
func (c *conn) RemoveImage(ctx context.Context, ref ceph.ImageRef) error {
	return c.on(ctx, "remove "+ref.String(), ref, func(ioctx *rados.IOContext) error { return remove(ioctx, ref.Name) })
}
