package model

import (
	"context"
	"maps"
	"slices"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// snapshotData is an image as it was.
type snapshotData struct {
	image   *imageData
	id      uint64
	name    string
	size    int64
	created time.Time
	blocks  blocks
	group   *groupData
	clones  int
	removed bool // in the trash until its last clone is gone
}

func (s *snapshotData) ref() ceph.SnapshotRef {
	return ceph.SnapshotRef{PoolID: s.image.ref.PoolID, Namespace: s.image.ref.Namespace, ImageID: s.image.id, SnapID: s.id}
}

func (s *snapshotData) info() ceph.SnapshotInfo {
	info := ceph.SnapshotInfo{Ref: s.ref(), Image: s.image.ref.Name, Name: s.name, Size: s.size, Created: s.created}
	if s.group != nil {
		group := s.group.ref
		info.Group = &group
	}
	return info
}

// remove takes a snapshot away, to the trash while it has clones.
func (s *snapshotData) remove() {
	if s.group, s.removed = nil, true; s.clones == 0 {
		delete(s.image.snaps, s.id)
	}
}

// snapshot makes a snapshot; c.mu is held.
func (c *Cluster) snapshot(data *imageData, name string, group *groupData) *snapshotData {
	snap := &snapshotData{image: data, id: c.newID(), name: name, size: data.size, created: time.Now(), blocks: maps.Clone(data.blocks), group: group}
	data.snaps[snap.id] = snap
	return snap
}

// live returns an image's snapshots in the order of their IDs, without the trash.
func (d *imageData) live() (snaps []*snapshotData) {
	for _, id := range slices.Sorted(maps.Keys(d.snaps)) {
		if !d.snaps[id].removed {
			snaps = append(snaps, d.snaps[id])
		}
	}
	return snaps
}

// findSnapshot returns a snapshot that was not removed; c.mu is held.
func (c *Cluster) findSnapshot(op string, ref ceph.SnapshotRef) (*snapshotData, error) {
	p, err := c.pool(op, ref.PoolID)
	if err != nil {
		return nil, err
	}
	for _, data := range p.images {
		if data.id != ref.ImageID || data.ref.Namespace != ref.Namespace {
			continue
		}
		if snap, ok := data.snaps[ref.SnapID]; ok && !snap.removed {
			return snap, nil
		}
	}
	return nil, ceph.Errorf(ceph.NotFound, op, "no such snapshot")
}

// CreateSnapshot makes a snapshot of an image, or returns the one that has the name.
func (c *Cluster) CreateSnapshot(ctx context.Context, ref ceph.ImageRef, name string) (info *ceph.SnapshotInfo, err error) {
	err = c.with(ctx, "CreateSnapshot", "snapshot "+ref.String(), ref, func(data *imageData) error {
		snaps := data.live()
		at := slices.IndexFunc(snaps, func(s *snapshotData) bool { return s.name == name && s.group == nil })
		if at < 0 {
			at, snaps = 0, []*snapshotData{c.snapshot(data, name, nil)}
		}
		made := snaps[at].info()
		info = &made
		return nil
	})
	return info, err
}

// Snapshot returns what a snapshot is.
func (c *Cluster) Snapshot(ctx context.Context, ref ceph.SnapshotRef) (*ceph.SnapshotInfo, error) {
	if err := c.enter(ctx, "Snapshot"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	snap, err := c.findSnapshot("look at "+ref.String(), ref)
	if err != nil {
		return nil, err
	}
	info := snap.info()
	return &info, nil
}

// ListSnapshots returns an image's snapshots in the order of their IDs.
func (c *Cluster) ListSnapshots(ctx context.Context, ref ceph.ImageRef) (list []ceph.SnapshotInfo, err error) {
	err = c.with(ctx, "ListSnapshots", "list the snapshots of "+ref.String(), ref, func(data *imageData) error {
		for _, snap := range data.live() {
			list = append(list, snap.info())
		}
		return nil
	})
	return list, err
}

// RemoveSnapshot removes a snapshot; clones of it live on.
func (c *Cluster) RemoveSnapshot(ctx context.Context, ref ceph.SnapshotRef) error {
	op := "remove " + ref.String()
	if err := c.enter(ctx, "RemoveSnapshot"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	snap, err := c.findSnapshot(op, ref)
	if err != nil {
		return err
	}
	if snap.group != nil {
		return ceph.Errorf(ceph.Invalid, op, "it belongs to %s", snap.group.ref)
	}
	snap.remove()
	return nil
}

// Diff calls f with the extents that differ between two snapshots of one image.
func (c *Cluster) Diff(ctx context.Context, base *ceph.SnapshotRef, target ceph.SnapshotRef, offset int64, f func(ceph.Extent) error) error {
	extents, err := c.extents(ctx, base, target, offset)
	for _, extent := range extents {
		if err := f(extent); err != nil {
			return err
		}
	}
	return err
}

func (c *Cluster) extents(ctx context.Context, base *ceph.SnapshotRef, target ceph.SnapshotRef, offset int64) ([]ceph.Extent, error) {
	op := "diff to " + target.String()
	if err := c.enter(ctx, "Diff"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	to, err := c.findSnapshot(op, target)
	if err != nil {
		return nil, err
	}
	if base == nil {
		return diff(nil, to.blocks, offset, to.size), nil
	}
	from, err := c.findSnapshot(op, *base)
	if err != nil {
		return nil, err
	}
	if from.image != to.image || from.id > to.id {
		return nil, ceph.Errorf(ceph.Invalid, op, "%s is no earlier snapshot of the same image", base)
	}
	return diff(from.blocks, to.blocks, offset, to.size), nil
}
