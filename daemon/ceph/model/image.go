package model

import (
	"context"
	"fmt"
	"io"
	"maps"
	"slices"
	"sync"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

const blockSize = 4096

// imageData is an image: its blocks that were written, and who has it open.
type imageData struct {
	mu       sync.Mutex
	id       string
	size     int64
	features []string
	metadata map[string]string
	blocks   map[int64][]byte
	watchers map[*image]string
	owner    *image // of the exclusive lock
}

func (p *pool) stored() (total int64) {
	for _, data := range p.images {
		data.mu.Lock()
		total += int64(len(data.blocks)) * blockSize
		data.mu.Unlock()
	}
	return total
}

// PoolID returns the ID of a pool.
func (c *Cluster) PoolID(ctx context.Context, name string) (int64, error) {
	if err := c.enter(ctx, "PoolID"); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	id, ok := c.findPool(name)
	if !ok {
		return 0, ceph.Errorf(ceph.NotFound, "look up pool "+name, "no such pool")
	}
	return id, nil
}

func key(ref ceph.ImageRef) string { return ref.Namespace + "/" + ref.Name }

// CreateImage makes an image.
func (c *Cluster) CreateImage(ctx context.Context, ref ceph.ImageRef, spec ceph.ImageSpec) error {
	op := "create " + ref.String()
	if err := c.enter(ctx, "CreateImage"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	p, ok := c.pools[ref.PoolID]
	if !ok {
		return ceph.Errorf(ceph.NotFound, op, "no such pool")
	}
	if _, taken := p.images[key(ref)]; taken {
		return ceph.Errorf(ceph.Exists, op, "the name is taken")
	}
	features := spec.Features
	if len(features) == 0 {
		features = ceph.DefaultFeatures
	}
	metadata := maps.Clone(spec.Metadata)
	if metadata == nil {
		metadata = map[string]string{}
	}
	p.images[key(ref)] = &imageData{
		id: fmt.Sprintf("%x", len(p.images)+1), size: spec.Size, features: slices.Clone(features), metadata: metadata,
		blocks: map[int64][]byte{}, watchers: map[*image]string{},
	}
	return nil
}

// find returns an image; c.mu is held.
func (c *Cluster) find(op string, ref ceph.ImageRef) (*imageData, error) {
	p, ok := c.pools[ref.PoolID]
	if !ok {
		return nil, ceph.Errorf(ceph.NotFound, op, "no such pool")
	}
	data, ok := p.images[key(ref)]
	if !ok {
		return nil, ceph.Errorf(ceph.NotFound, op, "no such image")
	}
	return data, nil
}

// with runs f on an image under its lock.
func (c *Cluster) with(ctx context.Context, call, op string, ref ceph.ImageRef, f func(*imageData) error) error {
	if err := c.enter(ctx, call); err != nil {
		return err
	}
	defer c.mu.Unlock()
	data, err := c.find(op, ref)
	if err != nil {
		return err
	}
	data.mu.Lock()
	defer data.mu.Unlock()
	return f(data)
}

// ImageInfo returns what an image is.
func (c *Cluster) ImageInfo(ctx context.Context, ref ceph.ImageRef) (info *ceph.ImageInfo, err error) {
	err = c.with(ctx, "ImageInfo", "look at "+ref.String(), ref, func(data *imageData) error {
		info = &ceph.ImageInfo{ID: data.id, Size: data.size, Features: slices.Clone(data.features), Metadata: maps.Clone(data.metadata),
			Watchers: slices.Sorted(maps.Values(data.watchers))}
		return nil
	})
	return info, err
}

// SetImageMetadata sets keys of an image's metadata and leaves the others.
func (c *Cluster) SetImageMetadata(ctx context.Context, ref ceph.ImageRef, metadata map[string]string) error {
	return c.with(ctx, "SetImageMetadata", "set metadata of "+ref.String(), ref, func(data *imageData) error {
		maps.Copy(data.metadata, metadata)
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

// RemoveImage deletes an image.
func (c *Cluster) RemoveImage(ctx context.Context, ref ceph.ImageRef) error {
	op := "remove " + ref.String()
	return c.with(ctx, "RemoveImage", op, ref, func(data *imageData) error {
		if len(data.watchers) > 0 {
			return ceph.Errorf(ceph.Busy, op, "open in %d clients", len(data.watchers))
		}
		delete(c.pools[ref.PoolID].images, key(ref))
		return nil
	})
}

// OpenImage opens an image for I/O.
func (c *conn) OpenImage(ctx context.Context, ref ceph.ImageRef, options ceph.OpenOptions) (ceph.Image, error) {
	op := "open " + ref.String()
	opened := &image{options: options}
	err := c.with(ctx, "OpenImage", op, ref, func(data *imageData) error {
		if options.Exclusive && !options.ReadOnly {
			if data.owner != nil {
				return ceph.Errorf(ceph.Busy, op, "another client owns the exclusive lock")
			}
			data.owner = opened
		}
		opened.data = data
		if !options.ReadOnly {
			data.watchers[opened] = c.addrs
		}
		return nil
	})
	if err != nil {
		return nil, err
	}
	return opened, nil
}

// image is an open image.
type image struct {
	data    *imageData
	options ceph.OpenOptions
}

func (i *image) Size() (int64, error) {
	i.data.mu.Lock()
	defer i.data.mu.Unlock()
	return i.data.size, nil
}

func (i *image) ReadAt(p []byte, offset int64) (int, error) {
	i.data.mu.Lock()
	defer i.data.mu.Unlock()
	n := int(min(int64(len(p)), max(0, i.data.size-offset)))
	for done := 0; done < n; {
		at := offset + int64(done)
		from := at % blockSize
		size := min(n-done, int(blockSize-from))
		if block, ok := i.data.blocks[at/blockSize]; ok {
			copy(p[done:done+size], block[from:])
		} else {
			clear(p[done : done+size])
		}
		done += size
	}
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (i *image) WriteAt(p []byte, offset int64) (int, error) {
	i.data.mu.Lock()
	defer i.data.mu.Unlock()
	if err := i.writable("write", offset, int64(len(p))); err != nil {
		return 0, err
	}
	for done := 0; done < len(p); {
		at := offset + int64(done)
		block, ok := i.data.blocks[at/blockSize]
		if !ok {
			block = make([]byte, blockSize)
			i.data.blocks[at/blockSize] = block
		}
		done += copy(block[at%blockSize:], p[done:])
	}
	return len(p), nil
}

func (i *image) writable(op string, offset, length int64) error {
	if i.options.ReadOnly {
		return ceph.Errorf(ceph.Busy, op, "the image is open read-only")
	}
	if offset < 0 || offset+length > i.data.size {
		return ceph.Errorf(ceph.Invalid, op, "%d bytes at %d are beyond the image's %d", length, offset, i.data.size)
	}
	return nil
}

func (i *image) Flush() error { return nil }

func (i *image) Discard(offset, length int64) error { return i.WriteZeroes(offset, length) }

func (i *image) WriteZeroes(offset, length int64) error {
	_, err := i.WriteAt(make([]byte, length), offset)
	return err
}

func (i *image) Close() error {
	i.data.mu.Lock()
	defer i.data.mu.Unlock()
	delete(i.data.watchers, i)
	if i.data.owner == i {
		i.data.owner = nil
	}
	return nil
}
