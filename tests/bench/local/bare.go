package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"

	"github.com/ceph/go-ceph/rados"
	"github.com/ceph/go-ceph/rbd"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// bare is the floor: the fewest calls of librbd that do what the driver does, on
// a connection of its own and with nothing remembered of them.
type bare struct {
	conn  *rados.Conn
	pools []*rados.IOContext // one a caller
}

func startBare(b *bed, callers int) (*bare, error) {
	conn, err := rados.NewConnWithUser("admin")
	if err != nil {
		return nil, err
	}
	if err := errors.Join(conn.SetConfigOption("mon_host", b.cluster.MonHost), conn.SetConfigOption("key", b.cluster.AdminKey.Reveal())); err != nil {
		return nil, err
	}
	if err := conn.Connect(); err != nil {
		return nil, err
	}
	f := &bare{conn: conn}
	for range callers {
		ioctx, err := conn.OpenIOContext(pool)
		if err != nil {
			f.end()
			return nil, err
		}
		f.pools = append(f.pools, ioctx)
	}
	return f, nil
}

func (f *bare) end() {
	for _, ioctx := range f.pools {
		ioctx.Destroy()
	}
	f.conn.Shutdown()
}

func (f *bare) options(set func(*rbd.ImageOptions) error, use func(*rbd.ImageOptions) error) error {
	options := rbd.NewRbdImageOptions()
	defer options.Destroy()
	if err := options.SetUint64(rbd.ImageOptionFeatures, uint64(rbd.FeatureSetFromNames(ceph.DefaultFeatures))); err != nil {
		return err
	}
	if err := set(options); err != nil {
		return err
	}
	return use(options)
}

func (f *bare) create(_ context.Context, i item) error {
	return f.options(func(*rbd.ImageOptions) error { return nil }, func(options *rbd.ImageOptions) error {
		return rbd.CreateImage(f.pools[i.worker], i.name, imageSize, options)
	})
}

// delete renames: like the driver's, it frees the name at once and leaves the
// removal of the data for later.
func (f *bare) delete(_ context.Context, i item) error {
	return rbd.GetImage(f.pools[i.worker], i.name).Rename("deleted-" + i.name)
}

// open runs something on an open image.
func (f *bare) open(i item, use func(*rbd.Image) error) error {
	image, err := rbd.OpenImage(f.pools[i.worker], i.name, rbd.NoSnapshot)
	if err != nil {
		return err
	}
	return errors.Join(use(image), image.Close())
}

func (f *bare) snap(_ context.Context, i item) error {
	return f.open(i, func(image *rbd.Image) error {
		_, err := image.CreateSnapshot("s")
		return err
	})
}

func (f *bare) createAndSnap(ctx context.Context, i item) error {
	if err := f.create(ctx, i); err != nil {
		return err
	}
	return f.snap(ctx, i)
}

func (f *bare) restore(_ context.Context, i item) error {
	return f.options(func(options *rbd.ImageOptions) error {
		return options.SetUint64(rbd.ImageOptionCloneFormat, 2)
	}, func(options *rbd.ImageOptions) error {
		return rbd.CloneImage(f.pools[i.worker], i.name, "s", f.pools[i.worker], i.name+"-c", options)
	})
}

// clone needs a snapshot for as long as it takes to clone it.
func (f *bare) clone(ctx context.Context, i item) error {
	return f.open(i, func(image *rbd.Image) error {
		snapshot, err := image.CreateSnapshot("s")
		if err != nil {
			return err
		}
		return errors.Join(f.restore(ctx, i), snapshot.Remove())
	})
}

// operations is how many client operations the OSDs have carried out so far.
func (f *bare) operations(osds int) (int64, error) {
	total := int64(0)
	for osd := range osds {
		out, status, err := f.conn.OsdCommand(osd, [][]byte{[]byte(`{"prefix": "perf dump", "logger": "osd"}`)})
		if err != nil {
			return 0, fmt.Errorf("ask osd.%d for its counters: %w: %s", osd, err, status)
		}
		var counters struct {
			OSD struct {
				Op int64 `json:"op"`
			} `json:"osd"`
		}
		if err := json.Unmarshal(out, &counters); err != nil {
			return 0, fmt.Errorf("read the counters of osd.%d: %w", osd, err)
		}
		total += counters.OSD.Op
	}
	return total, nil
}
