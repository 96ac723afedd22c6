package rados

import (
	"context"
	"errors"
	"time"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// withImage opens an image by its ID, read-only, for one look.
func withImage[T any](ioctx *rados.IOContext, id string, f func(*rbd.Image) (T, error)) (T, error) {
	image, err := rbd.OpenImageByIdReadOnly(ioctx, id, rbd.NoSnapshot)
	if err != nil {
		var none T
		return none, err
	}
	value, err := f(image)
	return value, errors.Join(err, image.Close())
}

// CreateSnapshot makes a snapshot of an image, or returns the one that has the name.
func (c *conn) CreateSnapshot(ctx context.Context, ref ceph.ImageRef, name string) (*ceph.SnapshotInfo, error) {
	op := "snapshot " + ref.String()
	return in(ctx, c, op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) (*ceph.SnapshotInfo, error) {
		image, err := rbd.OpenImage(ioctx, ref.Name, rbd.NoSnapshot)
		if err != nil {
			return nil, err
		}
		info, err := makeSnapshot(image, snapshots{ref: ref, ioctx: ioctx}, name)
		return info, errors.Join(err, image.Close())
	})
}

func makeSnapshot(image *rbd.Image, s snapshots, name string) (*ceph.SnapshotInfo, error) {
	if _, err := image.CreateSnapshot(name); err != nil && !errors.Is(err, rbd.ErrExist) {
		return nil, err
	}
	id, err := image.GetSnapID(name)
	if err != nil {
		return nil, err
	}
	list, err := s.list(image)
	if err != nil {
		return nil, err
	}
	for _, info := range list {
		if info.Ref.SnapID == id {
			return &info, nil
		}
	}
	return nil, rbd.ErrNotFound
}

// snapshots reads the snapshots of one image.
type snapshots struct {
	ref   ceph.ImageRef
	ioctx *rados.IOContext
}

// list returns an image's snapshots but those in the trash.
func (s snapshots) list(image *rbd.Image) ([]ceph.SnapshotInfo, error) {
	id, err := image.GetId()
	if err != nil {
		return nil, err
	}
	header, err := readHeader(s.ioctx, id, noSnapshot)
	if err != nil {
		return nil, err
	}
	found, err := image.GetSnapshotNames()
	if err != nil {
		return nil, err
	}
	var list []ceph.SnapshotInfo
	for _, snap := range found {
		info := ceph.SnapshotInfo{
			Ref:   ceph.SnapshotRef{PoolID: s.ref.PoolID, Namespace: s.ref.Namespace, ImageID: id, SnapID: snap.Id},
			Image: s.ref.Name, Name: snap.Name, Size: int64(snap.Size) - headerSize(header.metadata),
		}
		shown, err := s.describe(image, &info)
		if errors.Is(err, rbd.ErrNotFound) {
			// It, or its group, was removed after the image was opened: that must
			// not pass for the image, or another snapshot of it, not being there.
			continue
		}
		if err != nil {
			return nil, err
		}
		if shown {
			list = append(list, info)
		}
	}
	return list, nil
}

// describe adds what only the open image knows of a snapshot, and says whether
// the snapshot is to be seen: one in the trash is not.
func (s snapshots) describe(image *rbd.Image, info *ceph.SnapshotInfo) (bool, error) {
	kind, err := image.GetSnapNamespaceType(info.Ref.SnapID)
	if err != nil {
		return false, err
	}
	switch kind {
	case rbd.SnapNamespaceTypeUser:
	case rbd.SnapNamespaceTypeGroup:
		if err := s.inGroup(image, info); err != nil {
			return false, err
		}
	default:
		return false, nil
	}
	at, err := image.GetSnapTimestamp(info.Ref.SnapID)
	if err != nil {
		return false, err
	}
	info.Created = time.Unix(at.Sec, at.Nsec)
	return true, nil
}

func (s snapshots) inGroup(image *rbd.Image, info *ceph.SnapshotInfo) error {
	group, err := image.GetSnapGroupNamespace(info.Ref.SnapID)
	if err != nil {
		return err
	}
	info.Name = group.GroupName
	info.Group = &ceph.GroupRef{PoolID: int64(group.Pool), Namespace: s.ref.Namespace, Name: group.GroupName}
	return nil
}

// Snapshot returns what a snapshot is.
func (c *conn) Snapshot(ctx context.Context, ref ceph.SnapshotRef) (*ceph.SnapshotInfo, error) {
	return in(ctx, c, "look at "+ref.String(), ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) (*ceph.SnapshotInfo, error) {
		return snapshot(ioctx, ref)
	})
}

func snapshot(ioctx *rados.IOContext, ref ceph.SnapshotRef) (*ceph.SnapshotInfo, error) {
	name, err := imageName(ioctx, ref.ImageID)
	if err != nil {
		return nil, err
	}
	s := snapshots{ref: ceph.ImageRef{PoolID: ref.PoolID, Namespace: ref.Namespace, Name: name}, ioctx: ioctx}
	list, err := withImage(ioctx, ref.ImageID, s.list)
	if err != nil {
		return nil, err
	}
	for _, info := range list {
		if info.Ref == ref {
			return &info, nil
		}
	}
	return nil, rbd.ErrNotFound
}

// ListSnapshots returns an image's snapshots in the order of their IDs.
func (c *conn) ListSnapshots(ctx context.Context, ref ceph.ImageRef) ([]ceph.SnapshotInfo, error) {
	return in(ctx, c, "list the snapshots of "+ref.String(), ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) ([]ceph.SnapshotInfo, error) {
		id, err := imageID(ioctx, ref.Name)
		if err != nil {
			return nil, err
		}
		return withImage(ioctx, id, snapshots{ref: ref, ioctx: ioctx}.list)
	})
}

// RemoveSnapshot removes a snapshot; clones of it live on.
func (c *conn) RemoveSnapshot(ctx context.Context, ref ceph.SnapshotRef) error {
	op := "remove " + ref.String()
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) error {
			image, err := rbd.OpenImageById(ioctx, ref.ImageID, rbd.NoSnapshot)
			if errors.Is(err, rbd.ErrNotFound) {
				// Opening gives up when other snapshots go all the while.
				if _, unknown := imageName(ioctx, ref.ImageID); unknown == nil {
					return ceph.Errorf(ceph.Busy, op, "its image changes: %w", err)
				}
			}
			if err != nil {
				return err
			}
			return errors.Join(removeSnapshot(op, image, ref.SnapID), image.Close())
		})
	})
}

func removeSnapshot(op string, image *rbd.Image, id uint64) error {
	kind, err := image.GetSnapNamespaceType(id)
	if err != nil {
		return err
	}
	switch kind {
	case rbd.SnapNamespaceTypeUser:
		return image.RemoveSnapByID(id)
	case rbd.SnapNamespaceTypeGroup:
		return ceph.Errorf(ceph.Invalid, op, "it belongs to a group snapshot")
	}
	// In the trash: for the sake of clones, or by a removal that was cut off.
	if err := image.RemoveSnapByID(id); err != nil && ceph.KindOf(wrap(op, err)) != ceph.Busy {
		return err
	}
	return rbd.ErrNotFound
}
