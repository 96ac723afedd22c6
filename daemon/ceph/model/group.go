package model

import (
	"context"
	"slices"
	"strings"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// groupData is a group snapshot.
type groupData struct {
	ref     ceph.GroupRef
	created time.Time
	members []*snapshotData
}

func (g *groupData) info() *ceph.GroupInfo {
	info := &ceph.GroupInfo{Ref: g.ref, Created: g.created}
	for _, snap := range g.members {
		info.Members = append(info.Members, snap.info())
	}
	slices.SortFunc(info.Members, func(a, b ceph.SnapshotInfo) int { return strings.Compare(a.Ref.ImageID, b.Ref.ImageID) })
	return info
}

// SnapshotGroup makes snapshots of several images at one instant.
func (c *Cluster) SnapshotGroup(ctx context.Context, ref ceph.GroupRef, images []ceph.ImageRef) (*ceph.GroupInfo, error) {
	op := "make " + ref.String()
	if err := c.enter(ctx, "SnapshotGroup"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	p, err := c.pool(op, ref.PoolID)
	if err != nil {
		return nil, err
	}
	if group, ok := p.groups[key(ref.Namespace, ref.Name)]; ok {
		return group.info(), nil
	}
	if len(images) == 0 {
		return nil, ceph.Errorf(ceph.Invalid, op, "no images")
	}
	var members []*imageData
	for _, image := range images {
		data, err := c.find(op, image)
		if err != nil {
			return nil, err
		}
		members = append(members, data)
	}
	group := &groupData{ref: ref, created: time.Now()}
	for _, data := range members {
		group.members = append(group.members, c.snapshot(data, ref.Name, group))
	}
	p.groups[key(ref.Namespace, ref.Name)] = group
	return group.info(), nil
}

// withGroup runs f on a group snapshot under the cluster's lock.
func (c *Cluster) withGroup(ctx context.Context, call, op string, ref ceph.GroupRef, f func(*pool, *groupData)) error {
	if err := c.enter(ctx, call); err != nil {
		return err
	}
	defer c.mu.Unlock()
	p, err := c.pool(op, ref.PoolID)
	if err != nil {
		return err
	}
	group, ok := p.groups[key(ref.Namespace, ref.Name)]
	if !ok {
		return ceph.Errorf(ceph.NotFound, op, "no such group snapshot")
	}
	f(p, group)
	return nil
}

// Group returns what a group snapshot is.
func (c *Cluster) Group(ctx context.Context, ref ceph.GroupRef) (info *ceph.GroupInfo, err error) {
	err = c.withGroup(ctx, "Group", "look at "+ref.String(), ref, func(_ *pool, g *groupData) { info = g.info() })
	return info, err
}

// RemoveGroup removes a group snapshot with its members; clones of them live on.
func (c *Cluster) RemoveGroup(ctx context.Context, ref ceph.GroupRef) error {
	return c.withGroup(ctx, "RemoveGroup", "remove "+ref.String(), ref, func(p *pool, g *groupData) {
		for _, snap := range g.members {
			snap.remove()
		}
		delete(p.groups, key(ref.Namespace, ref.Name))
	})
}
