package rados

import (
	"context"
	"errors"
	"slices"

	"github.com/ceph/go-ceph/rados"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// PoolID returns the ID of a pool by this client's OSD map, which is brought up
// to date when it does not know the name, or when this connection made or
// removed pools. In an old map a pool that was made anew still has its old ID:
// whatever is then done in it fails as NotFound, and brings the map up to date.
func (c *conn) PoolID(ctx context.Context, name string) (int64, error) {
	op := "look up pool " + name
	return call(ctx, c, op, func() (int64, error) {
		known, err := c.knows(name)
		if err == nil && !known {
			err = c.newestMap()
		}
		if err != nil {
			c.stalePools.Store(true)
			return 0, wrap(op, err)
		}
		id, err := c.rados.GetPoolByName(name)
		return id, wrap(op, err)
	})
}

// knows says whether this client's OSD map has a pool and is not known to be old.
func (c *conn) knows(pool string) (bool, error) {
	if c.stalePools.Swap(false) {
		return false, nil
	}
	pools, err := c.rados.ListPools()
	return slices.Contains(pools, pool), err
}

// newestMap brings the OSD map up to date. That alone would wait for the mons
// without end: a command to them, which ends by its timeout, comes first.
func (c *conn) newestMap() error {
	if _, _, err := c.rados.MonCommand([]byte(`{"prefix":"osd stat","format":"json"}`)); err != nil {
		return err
	}
	return c.rados.WaitForLatestOSDMap()
}

// inPool opens the pool and namespace of an image for one operation.
func (c *conn) inPool(op string, poolID int64, namespace string, f func(*rados.IOContext) error) error {
	ioctx, err := c.openPool(op, poolID, namespace)
	if err != nil {
		return err
	}
	defer ioctx.Destroy()
	return wrap(op, f(ioctx))
}

func (c *conn) openPool(op string, poolID int64, namespace string) (*rados.IOContext, error) {
	pool, err := c.rados.GetPoolByID(poolID)
	if errors.Is(err, rados.ErrNotFound) {
		if err := c.newestMap(); err != nil {
			return nil, wrap(op, err)
		}
		pool, err = c.rados.GetPoolByID(poolID)
	}
	if err != nil {
		return nil, wrap(op, err)
	}
	ioctx, err := c.rados.OpenIOContext(pool)
	if err != nil {
		return nil, wrap(op, err)
	}
	if ioctx.GetPoolID() != poolID {
		ioctx.Destroy()
		return nil, ceph.Errorf(ceph.NotFound, op, "pool %s was made anew", pool)
	}
	ioctx.SetNamespace(namespace)
	return ioctx, nil
}

// on runs f in an image's pool and namespace.
func (c *conn) on(ctx context.Context, op string, ref ceph.ImageRef, f func(*rados.IOContext) error) error {
	return c.run(ctx, op, func() error {
		return c.inPool(op, ref.PoolID, ref.Namespace, func(ioctx *rados.IOContext) error {
			return c.whole(op, ioctx, ref.Name, func() error { return f(ioctx) })
		})
	})
}

// in runs f in a pool and namespace and returns what it returns.
func in[T any](ctx context.Context, c *conn, op string, poolID int64, namespace string, f func(*rados.IOContext) (T, error)) (T, error) {
	return call(ctx, c, op, func() (value T, err error) {
		err = c.inPool(op, poolID, namespace, func(ioctx *rados.IOContext) error {
			value, err = f(ioctx)
			return err
		})
		return value, err
	})
}
