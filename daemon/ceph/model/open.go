package model

import (
	"context"
	"io"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// image is an open image.
type image struct {
	conn     *conn
	data     *imageData
	snap     *snapshotData // nil for the image as it is
	readOnly bool
}

// OpenImage opens an image for I/O.
func (c *conn) OpenImage(ctx context.Context, ref ceph.ImageRef, options ceph.OpenOptions) (ceph.Image, error) {
	op := "open " + ref.String()
	opened := &image{conn: c, readOnly: options.ReadOnly || options.Snapshot != 0}
	err := c.with(ctx, "OpenImage", op, ref, func(data *imageData) error { return opened.open(op, data, options) })
	if err != nil {
		return nil, err
	}
	return opened, nil
}

func (i *image) open(op string, data *imageData, options ceph.OpenOptions) error {
	if err := notFenced(op, i.conn.Cluster, i.conn.addrs); err != nil {
		return err
	}
	switch {
	case (data.passphrase == "") != (options.Passphrase == ""):
		return ceph.Errorf(ceph.Invalid, op, "an encrypted image needs a passphrase, a plain one has none")
	case data.passphrase != options.Passphrase:
		return ceph.Errorf(ceph.Forbidden, op, "the passphrase does not open the image")
	}
	i.data = data
	if options.Snapshot != 0 {
		snap, ok := data.snaps[options.Snapshot]
		if !ok || snap.removed {
			return ceph.Errorf(ceph.NotFound, op, "no such snapshot")
		}
		i.snap = snap
	}
	if i.readOnly {
		return nil
	}
	if options.Exclusive {
		if data.owner != nil {
			return ceph.Errorf(ceph.Busy, op, "another client owns the exclusive lock")
		}
		data.owner = i
	}
	data.watchers[i] = i.conn.addrs
	return nil
}

// state is what the image holds, and its size.
func (i *image) state() (blocks, int64) {
	if i.snap != nil {
		return i.snap.blocks, i.snap.size
	}
	return i.data.blocks, i.data.size
}

func (i *image) Size() (int64, error) {
	i.conn.mu.Lock()
	defer i.conn.mu.Unlock()
	_, size := i.state()
	return size, nil
}

func (i *image) ReadAt(p []byte, offset int64) (int, error) {
	i.conn.mu.Lock()
	defer i.conn.mu.Unlock()
	held, size := i.state()
	n := int(min(int64(len(p)), max(0, size-offset)))
	held.read(p[:n], offset)
	if n < len(p) {
		return n, io.EOF
	}
	return n, nil
}

func (i *image) WriteAt(p []byte, offset int64) (int, error) {
	i.conn.mu.Lock()
	defer i.conn.mu.Unlock()
	if err := i.writable("write", offset, int64(len(p))); err != nil {
		return 0, err
	}
	i.data.blocks.write(p, offset)
	return len(p), nil
}

func (i *image) writable(op string, offset, length int64) error {
	if i.readOnly {
		return ceph.Errorf(ceph.Busy, op, "the image is open read-only")
	}
	if offset < 0 || offset+length > i.data.size {
		return ceph.Errorf(ceph.Invalid, op, "%d bytes at %d are beyond the image's %d", length, offset, i.data.size)
	}
	return notFenced(op, i.conn.Cluster, i.conn.addrs)
}

func (i *image) Flush() error { return nil }

func (i *image) Discard(offset, length int64) error { return i.zero("discard", offset, length) }

func (i *image) WriteZeroes(offset, length int64) error {
	return i.zero("write zeroes", offset, length)
}

func (i *image) zero(op string, offset, length int64) error {
	i.conn.mu.Lock()
	defer i.conn.mu.Unlock()
	if err := i.writable(op, offset, length); err != nil {
		return err
	}
	i.data.blocks.zero(offset, length)
	return nil
}

func (i *image) Close() error {
	i.conn.mu.Lock()
	defer i.conn.mu.Unlock()
	delete(i.data.watchers, i)
	if i.data.owner == i {
		i.data.owner = nil
	}
	return nil
}
