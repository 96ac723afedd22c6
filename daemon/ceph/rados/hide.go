package rados

import (
	"context"
	"errors"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// HideImage renames an image to HiddenPrefix and its ID.
func (c *conn) HideImage(ctx context.Context, ref ceph.ImageRef) error {
	op := "hide " + ref.String()
	return c.on(ctx, op, ref, func(ioctx *rados.IOContext) error {
		image, err := rbd.OpenImageReadOnly(ioctx, ref.Name, rbd.NoSnapshot)
		if err != nil {
			return err
		}
		id, err := unwatched(op, image)
		if err := errors.Join(err, image.Close()); err != nil {
			return err
		}
		if strings.HasPrefix(ref.Name, ceph.HiddenPrefix) {
			return nil
		}
		return rbd.GetImage(ioctx, ref.Name).Rename(ceph.HiddenPrefix + id)
	})
}

// unwatched returns the ID of an image that no other client has open.
func unwatched(op string, image *rbd.Image) (string, error) {
	watchers, err := image.ListWatchers()
	if err != nil {
		return "", err
	}
	if len(watchers) > 0 {
		return "", ceph.Errorf(ceph.Busy, op, "open in %d clients", len(watchers))
	}
	return image.GetId()
}
