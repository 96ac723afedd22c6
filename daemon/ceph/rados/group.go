package rados

import (
	"context"
	"errors"
	"slices"
	"strings"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// A group snapshot is an RBD group of its own with one snapshot, both of the
// group snapshot's name. The images are in the group only while the snapshot is
// made: an image can be in one group at a time.

// SnapshotGroup makes snapshots of several images at one instant. Cut short
// anywhere, a repeat goes on from what it finds.
func (c *conn) SnapshotGroup(ctx context.Context, ref ceph.GroupRef, images []ceph.ImageRef) (*ceph.GroupInfo, error) {
	op := "make " + ref.String()
	return in(ctx, c, op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) (*ceph.GroupInfo, error) {
		g := group{conn: c, op: op, ioctx: ioctx, ref: ref}
		made, err := g.made()
		if err != nil {
			return nil, err
		}
		if !made {
			if err := g.make(ctx, images); err != nil {
				return nil, err
			}
		}
		if err := g.release(nil); err != nil {
			return nil, err
		}
		return g.info()
	})
}

// Group returns what a group snapshot is.
func (c *conn) Group(ctx context.Context, ref ceph.GroupRef) (*ceph.GroupInfo, error) {
	op := "look at " + ref.String()
	return in(ctx, c, op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) (*ceph.GroupInfo, error) {
		return group{conn: c, op: op, ioctx: ioctx, ref: ref}.info()
	})
}

// RemoveGroup removes a group snapshot with its members; clones of them live on.
// It is not found only when the directory does not know it.
func (c *conn) RemoveGroup(ctx context.Context, ref ceph.GroupRef) error {
	op := "remove " + ref.String()
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) error {
			g := group{conn: c, op: op, ioctx: ioctx, ref: ref}
			if err := g.known(); err != nil {
				return err
			}
			err := g.remove()
			if ceph.Is(wrap(op, err), ceph.NotFound) && g.known() == nil {
				return ceph.Errorf(ceph.Busy, op, "something of it was removed by someone else meanwhile: %w", err)
			}
			return err
		})
	})
}

// known is not found when the directory does not know the group.
func (g group) known() error {
	_, err := lookUp(g.ioctx, groupDirectory, nameKey+g.ref.Name)
	return err
}

func (g group) remove() error {
	if err := g.release(nil); err != nil {
		return err
	}
	if err := g.removeSnapshots(); err != nil {
		return err
	}
	return rbd.GroupRemove(g.ioctx, g.ref.Name)
}

type group struct {
	conn  *conn
	op    string
	ioctx *rados.IOContext
	ref   ceph.GroupRef
}

// made says whether the snapshot is complete; one that was cut short is removed.
func (g group) made() (bool, error) {
	snap, err := rbd.GroupSnapGetInfo(g.ioctx, g.ref.Name, g.ref.Name)
	if errors.Is(err, rbd.ErrNotFound) {
		return false, nil
	}
	if err != nil || snap.State == rbd.GroupSnapStateComplete {
		return err == nil, err
	}
	return false, g.removeSnapshots()
}

func (g group) make(ctx context.Context, images []ceph.ImageRef) error {
	if len(images) == 0 {
		return ceph.Errorf(ceph.Invalid, g.op, "no images")
	}
	if err := rbd.GroupCreate(g.ioctx, g.ref.Name); err != nil && !errors.Is(err, rbd.ErrExist) {
		return err
	}
	err := g.join(images)
	if err == nil {
		err = g.snap(ctx, images)
	}
	if err == nil {
		return nil
	}
	return g.undo(err)
}

// snap makes the snapshot while the images that are in use are held.
func (g group) snap(ctx context.Context, images []ceph.ImageRef) error {
	asked, err := g.hold(ctx, images)
	if err == nil {
		err = rbd.GroupSnapCreate(g.ioctx, g.ref.Name, g.ref.Name)
	}
	return errors.Join(err, g.letGo(asked))
}

// undo takes away what a failed try made, so that no image stays in a group that
// nobody asks for again.
func (g group) undo(err error) error {
	if undone := g.release(nil); undone != nil {
		return err
	}
	if made, unknown := g.made(); !made && unknown == nil {
		_ = rbd.GroupRemove(g.ioctx, g.ref.Name)
	}
	return err
}

// join puts exactly these images into the group.
func (g group) join(images []ceph.ImageRef) error {
	if err := g.release(images); err != nil {
		return err
	}
	for _, image := range images {
		err := g.conn.inPool(g.op, image.PoolID, image.Namespace, func(ioctx *rados.IOContext) error {
			return rbd.GroupImageAdd(g.ioctx, g.ref.Name, ioctx, image.Name)
		})
		if ceph.Is(err, ceph.Exists) {
			return ceph.Errorf(ceph.Busy, g.op, "%s is in another group", image)
		}
		if err != nil {
			return err
		}
	}
	return nil
}

// release takes all images but some out of the group.
func (g group) release(but []ceph.ImageRef) error {
	keep, err := g.find(but)
	if err != nil {
		return err
	}
	state, err := g.read()
	if err != nil {
		return err
	}
	for _, member := range state.members {
		if slices.Contains(keep, member) {
			continue
		}
		err := g.conn.inPool(g.op, member.pool, g.ref.Namespace, func(ioctx *rados.IOContext) error {
			return rbd.GroupImageRemoveByID(g.ioctx, g.ref.Name, ioctx, member.id)
		})
		if err != nil && !ceph.Is(err, ceph.NotFound) {
			return err
		}
	}
	return nil
}

// find looks up the IDs of images.
func (g group) find(refs []ceph.ImageRef) (images []groupImage, err error) {
	for _, ref := range refs {
		err := g.image(ref, func(ioctx *rados.IOContext) error {
			id, err := imageID(ioctx, ref.Name)
			images = append(images, groupImage{ref.PoolID, id})
			return err
		})
		if err != nil {
			return nil, err
		}
	}
	return images, nil
}

// info describes a complete group snapshot.
func (g group) info() (*ceph.GroupInfo, error) {
	snap, err := rbd.GroupSnapGetInfo(g.ioctx, g.ref.Name, g.ref.Name)
	if err != nil {
		return nil, err
	}
	if snap.State != rbd.GroupSnapStateComplete {
		return nil, ceph.Errorf(ceph.NotFound, g.op, "it was not completed")
	}
	info := &ceph.GroupInfo{Ref: g.ref}
	for _, member := range snap.Snapshots {
		found, err := g.member(member)
		if err != nil {
			return nil, err
		}
		if found.Created.After(info.Created) {
			info.Created = found.Created
		}
		info.Members = append(info.Members, *found)
	}
	slices.SortFunc(info.Members, func(a, b ceph.SnapshotInfo) int { return strings.Compare(a.Ref.ImageID, b.Ref.ImageID) })
	return info, nil
}

func (g group) member(member rbd.GroupSnap) (found *ceph.SnapshotInfo, err error) {
	ref := ceph.SnapshotRef{PoolID: int64(member.PoolID), Namespace: g.ref.Namespace, SnapID: member.SnapID}
	err = g.conn.inPool(g.op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) error {
		if ref.ImageID, err = imageID(ioctx, member.Name); err != nil {
			return err
		}
		found, err = snapshot(ioctx, ref)
		return err
	})
	return found, err
}
