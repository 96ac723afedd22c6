package model

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// imageData is an image: what it holds, and who has it open.
type imageData struct {
	ref        ceph.ImageRef
	dataPool   int64 // that holds its data
	id         string
	size       int64
	features   []string
	metadata   map[string]string
	limits     ceph.Limits
	passphrase ceph.Passphrase
	blocks     blocks
	snaps      map[uint64]*snapshotData
	parent     *snapshotData
	watchers   map[*image]string
	owner      *image // of the exclusive lock
}

func key(namespace, name string) string { return namespace + "/" + name }

// CreateImage makes an image.
func (c *Cluster) CreateImage(ctx context.Context, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	if err := c.enter(ctx, "CreateImage"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	op := "create " + ref.String()
	if err := plainOnly(op, spec.Passphrase, spec); err != nil {
		return err
	}
	_, err := c.add(op, ref, spec)
	return err
}

// add makes an empty image; c.mu is held.
func (c *Cluster) add(op string, ref ceph.ImageRef, spec ceph.ImageSpec) (*imageData, error) {
	p, err := c.pool(op, ref.PoolID)
	if err != nil {
		return nil, err
	}
	if _, taken := p.images[key(ref.Namespace, ref.Name)]; taken {
		return nil, ceph.Errorf(ceph.Exists, op, "the name is taken")
	}
	features := spec.Features
	if len(features) == 0 {
		features = ceph.DefaultFeatures
	}
	data, err := c.dataPool(op, ref.PoolID, spec.DataPool)
	if err != nil {
		return nil, err
	}
	if data != ref.PoolID {
		features = append(slices.Clone(features), "data-pool")
	}
	made := &imageData{
		ref: ref, dataPool: data, id: fmt.Sprintf("%012x", c.newID()), size: spec.Size, features: slices.Clone(features), passphrase: spec.Passphrase,
		metadata: map[string]string{}, blocks: blocks{}, snaps: map[uint64]*snapshotData{}, watchers: map[*image]string{},
	}
	maps.Copy(made.metadata, spec.Metadata)
	p.images[key(ref.Namespace, ref.Name)] = made
	return made, nil
}

func (c *Cluster) newID() uint64 {
	c.nextID++
	return c.nextID
}

// CloneImage makes an image that begins as a snapshot is.
func (c *Cluster) CloneImage(ctx context.Context, parent ceph.SnapshotRef, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	op := "clone " + parent.String() + " to " + ref.String()
	if err := c.enter(ctx, "CloneImage"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	snap, err := c.findSnapshot(op, parent)
	if err != nil {
		return err
	}
	if spec.Size < snap.size {
		return ceph.Errorf(ceph.Invalid, op, "%d bytes are fewer than the snapshot's %d", spec.Size, snap.size)
	}
	if err := plainOnly(op, snap.image.passphrase, spec); err != nil {
		return err
	}
	data, err := c.add(op, ref, spec)
	if err != nil {
		return err
	}
	data.blocks, data.passphrase, data.parent = maps.Clone(snap.blocks), snap.image.passphrase, snap
	snap.clones++
	return nil
}

func (c *Cluster) pool(op string, id int64) (*pool, error) {
	p, ok := c.pools[id]
	if !ok {
		return nil, ceph.Errorf(ceph.NotFound, op, "no such pool")
	}
	return p, nil
}

// find returns an image; c.mu is held.
func (c *Cluster) find(op string, ref ceph.ImageRef) (*imageData, error) {
	p, err := c.pool(op, ref.PoolID)
	if err != nil {
		return nil, err
	}
	data, ok := p.images[key(ref.Namespace, ref.Name)]
	if !ok {
		return nil, ceph.Errorf(ceph.NotFound, op, "no such image")
	}
	return data, nil
}

// with runs f on an image under the cluster's lock.
func (c *Cluster) with(ctx context.Context, call, op string, ref ceph.ImageRef, f func(*imageData) error) error {
	if err := c.enter(ctx, call); err != nil {
		return err
	}
	defer c.mu.Unlock()
	data, err := c.find(op, ref)
	if err != nil {
		return err
	}
	return f(data)
}

// ImageInfo returns what an image is.
func (c *Cluster) ImageInfo(ctx context.Context, ref ceph.ImageRef) (info *ceph.ImageInfo, err error) {
	err = c.with(ctx, "ImageInfo", "look at "+ref.String(), ref, func(data *imageData) error {
		info = &ceph.ImageInfo{ID: data.id, Size: data.size, Features: slices.Clone(data.features), Metadata: maps.Clone(data.metadata),
			Watchers: slices.Sorted(maps.Values(data.watchers)), Limits: data.limits, Encrypted: data.passphrase != ""}
		if data.parent != nil {
			parent := data.parent.ref()
			info.Parent = &parent
		}
		return nil
	})
	return info, err
}

// ListImages returns names of images in order, after a name.
func (c *Cluster) ListImages(ctx context.Context, poolID int64, namespace, after string, limit int) ([]string, error) {
	if err := c.enter(ctx, "ListImages"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	p, err := c.pool("list images", poolID)
	if err != nil {
		return nil, err
	}
	var names []string
	for _, data := range p.images {
		if data.ref.Namespace == namespace && data.ref.Name > after {
			names = append(names, data.ref.Name)
		}
	}
	slices.Sort(names)
	return names[:min(limit, len(names))], nil
}

// SetImageMetadata sets keys of an image's metadata and leaves the others.
func (c *Cluster) SetImageMetadata(ctx context.Context, ref ceph.ImageRef, metadata map[string]string) error {
	return c.with(ctx, "SetImageMetadata", "set metadata of "+ref.String(), ref, func(data *imageData) error {
		maps.Copy(data.metadata, metadata)
		return nil
	})
}

// LimitImage bounds an image's I/O.
func (c *Cluster) LimitImage(ctx context.Context, ref ceph.ImageRef, limits ceph.Limits) error {
	return c.with(ctx, "LimitImage", "limit "+ref.String(), ref, func(data *imageData) error {
		data.limits = limits
		return nil
	})
}

// GrowImage makes an image at least size bytes long.
func (c *Cluster) GrowImage(ctx context.Context, ref ceph.ImageRef, size int64) error {
	return c.with(ctx, "GrowImage", "grow "+ref.String(), ref, func(data *imageData) error {
		data.size = max(data.size, size)
		return nil
	})
}

// FlattenImage cuts a clone's tie to its parent.
func (c *Cluster) FlattenImage(ctx context.Context, ref ceph.ImageRef, progress func(done, total uint64)) error {
	cut := false
	err := c.with(ctx, "FlattenImage", "flatten "+ref.String(), ref, func(data *imageData) error {
		cut = data.parent != nil
		data.orphan()
		return nil
	})
	if cut && progress != nil {
		progress(1, 1)
	}
	return err
}

// orphan cuts a clone's tie to its parent, which goes if it was removed before.
func (d *imageData) orphan() {
	snap := d.parent
	if d.parent = nil; snap == nil {
		return
	}
	if snap.clones--; snap.clones == 0 && snap.removed {
		delete(snap.image.snaps, snap.id)
	}
}

// HideImage renames an image to HiddenPrefix and its ID.
func (c *Cluster) HideImage(ctx context.Context, ref ceph.ImageRef) error {
	op := "hide " + ref.String()
	return c.with(ctx, "HideImage", op, ref, func(data *imageData) error {
		if len(data.watchers) > 0 {
			return ceph.Errorf(ceph.Busy, op, "open in %d clients", len(data.watchers))
		}
		if strings.HasPrefix(ref.Name, ceph.HiddenPrefix) {
			return nil
		}
		images := c.pools[ref.PoolID].images
		delete(images, key(ref.Namespace, ref.Name))
		data.ref.Name = ceph.HiddenPrefix + data.id
		images[key(ref.Namespace, data.ref.Name)] = data
		return nil
	})
}

// RemoveImage deletes an image.
func (c *Cluster) RemoveImage(ctx context.Context, ref ceph.ImageRef) error {
	op := "remove " + ref.String()
	return c.with(ctx, "RemoveImage", op, ref, func(data *imageData) error {
		if len(data.watchers) > 0 {
			return ceph.Errorf(ceph.Busy, op, "open in %d clients", len(data.watchers))
		}
		if len(data.snaps) > 0 {
			return ceph.Errorf(ceph.Busy, op, "it has snapshots, or clones of them")
		}
		data.orphan()
		delete(c.pools[ref.PoolID].images, key(ref.Namespace, ref.Name))
		return nil
	})
}
