// Package fuse attaches images in user space: librbd serves the image as one file
// through FUSE, and a loop device with direct I/O makes the file a block device.
// The process that does this is the data path of its volumes.
package fuse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"path/filepath"
	"slices"
	"strings"
	"sync"
	"time"

	"golang.org/x/sync/singleflight"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/loop"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Attacher attaches images in this process.
type Attacher struct {
	// Dir is where attachments have their directories.
	Dir       string
	Connector ceph.Connector
	// Export serves an image as a file; nil is Serve.
	Export Exporter

	flight  singleflight.Group
	mu      sync.Mutex
	volumes map[string]*attached
	devices map[string]attach.Device // those that work
	empty   chan struct{}

	connecting sync.Mutex
	conns      map[ceph.Credentials]ceph.Conn
}

// attached is one attached volume. Its lock is held by whoever changes it.
type attached struct {
	mu        sync.Mutex
	volume    attach.Volume
	image     ceph.Image
	export    Export
	state     state
	releasing bool
	gone      bool
}

// Attach makes an image a device. The work goes on when the caller gives up, and
// the next call for the volume joins it: an image that was opened for nobody
// would stay locked.
func (a *Attacher) Attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	id, err := volumeid.Parse(v.ID)
	if err != nil {
		return attach.Device{}, fault.Field(fault.Invalid, "id", "%w", err)
	}
	if id.Image != v.Image || id.FSID != v.Credentials.FSID {
		return attach.Device{}, fault.Field(fault.Invalid, "image", "%s is not the image of volume %s", v.Image, v.ID)
	}
	return a.fly(ctx, "attach/"+v.ID, "attach "+v.Image.String(), func(ctx context.Context) (attach.Device, error) {
		return a.attach(ctx, v)
	})
}

// Detach ends an attachment; refused while the device is in use.
func (a *Attacher) Detach(ctx context.Context, volumeID string) error {
	_, err := a.fly(ctx, "detach/"+volumeID, "detach", func(ctx context.Context) (attach.Device, error) {
		return attach.Device{}, a.detach(ctx, volumeID)
	})
	return err
}

// fly runs f once for all who ask for the same at the same time.
func (a *Attacher) fly(ctx context.Context, key, op string, f func(context.Context) (attach.Device, error)) (attach.Device, error) {
	tracker := &step.Tracker{}
	running := a.flight.DoChan(key, func() (any, error) {
		return f(step.With(context.WithoutCancel(ctx), tracker))
	})
	select {
	case result := <-running:
		device, _ := result.Val.(attach.Device)
		return device, result.Err
	case <-ctx.Done():
		name, in := tracker.Now()
		return attach.Device{}, &ceph.Error{Kind: ceph.Timeout, Op: op,
			Err: fmt.Errorf("still busy, for %s in the step: %s: %w", in, name, ctx.Err())}
	}
}

func (a *Attacher) attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	t := a.take(v.ID)
	defer t.mu.Unlock()
	if t.image != nil {
		return t.again(v)
	}
	err := a.build(ctx, t, v)
	if err != nil {
		return attach.Device{}, errors.Join(err, a.forget(t, v.ID))
	}
	a.show(t.state.Device)
	klog.InfoS("Attached", "volume", v.ID, "device", t.state.Device.Path, "readOnly", v.ReadOnly, "exclusive", v.Exclusive)
	return t.state.Device, nil
}

// again answers a repeat.
func (t *attached) again(v attach.Volume) (attach.Device, error) {
	switch {
	case t.releasing:
		return attach.Device{}, fault.Errorf(fault.Pending, "volume %s is being detached", v.ID)
	case t.volume.ReadOnly != v.ReadOnly || t.volume.Exclusive != v.Exclusive:
		return attach.Device{}, fault.Errorf(fault.Conflict, "volume %s is attached in another mode", v.ID)
	}
	return t.state.Device, nil
}

// build goes from nothing to a device; on an error it leaves nothing.
func (a *Attacher) build(ctx context.Context, t *attached, v attach.Volume) error {
	conn, err := a.connect(ctx, v.Credentials)
	if err != nil {
		return err
	}
	step.Enter(ctx, "open "+v.Image.String())
	image, err := conn.OpenImage(ctx, v.Image, ceph.OpenOptions{ReadOnly: v.ReadOnly, Exclusive: v.Exclusive && !v.ReadOnly})
	if ceph.Is(err, ceph.Fenced) {
		a.dropConn(v.Credentials)
	}
	if err != nil {
		return err
	}
	device, export, err := a.bind(ctx, image, v)
	if err != nil {
		return errors.Join(err, image.Close())
	}
	device.VolumeID, device.ReadOnly, device.ClientAddrs = v.ID, v.ReadOnly, conn.ClientAddrs()
	t.volume, t.image, t.export = v, image, export
	t.volume.Credentials = ceph.Credentials{}
	t.state = state{BootID: durable.BootID(), Device: device, File: filepath.Base(export.File().Name())}
	return nil
}

// bind exports an image and binds its file to a loop device.
func (a *Attacher) bind(ctx context.Context, image ceph.Image, v attach.Volume) (attach.Device, Export, error) {
	serve := a.Export
	if serve == nil {
		serve = Serve
	}
	step.Enter(ctx, "export "+v.Image.String())
	export, err := serve(ctx, image, a.dir(v.ID), v.ReadOnly)
	if err != nil {
		return attach.Device{}, nil, err
	}
	step.Enter(ctx, "bind a loop device to "+v.Image.String())
	device, err := a.bindLoop(ctx, export, v)
	if err := errors.Join(err, export.File().Close()); err != nil {
		<-export.Done()
		return attach.Device{}, nil, err
	}
	return device, export, nil
}

func (a *Attacher) bindLoop(ctx context.Context, export Export, v attach.Volume) (attach.Device, error) {
	bound, err := loop.Bind(ctx, export.File(), v.ReadOnly)
	if err != nil {
		return attach.Device{}, err
	}
	file := filepath.Base(export.File().Name())
	device := attach.Device{VolumeID: v.ID, Path: bound.Path, Major: bound.Major, Minor: bound.Minor}
	device.Size, err = loop.Size(bound.Path)
	if err == nil {
		err = a.save(state{BootID: durable.BootID(), Device: device, File: file})
	}
	if err != nil {
		return attach.Device{}, errors.Join(err, loop.Release(bound.Path, file))
	}
	return device, nil
}

func (a *Attacher) detach(ctx context.Context, volumeID string) error {
	t := a.take(volumeID)
	defer t.mu.Unlock()
	if t.image == nil {
		return a.forget(t, volumeID)
	}
	step.Enter(ctx, "release "+t.state.Device.Path)
	err := loop.Release(t.state.Device.Path, t.state.File)
	if errors.Is(err, loop.ErrHeld) {
		return err
	}
	t.releasing = true
	a.hide(volumeID)
	if err != nil {
		return err
	}
	step.Enter(ctx, "wait for the kernel to let go of the image's file")
	<-t.export.Done()
	step.Enter(ctx, "close "+t.volume.Image.String())
	if err := t.image.Close(); err != nil {
		klog.ErrorS(err, "The image did not close cleanly", "volume", volumeID)
	}
	klog.InfoS("Detached", "volume", volumeID, "device", t.state.Device.Path)
	return a.forget(t, volumeID)
}

// take returns a volume's entry, locked.
func (a *Attacher) take(volumeID string) *attached {
	for {
		a.mu.Lock()
		t := a.volumes[volumeID]
		if t == nil {
			t = &attached{}
			if a.volumes == nil {
				a.volumes = map[string]*attached{}
			}
			a.volumes[volumeID] = t
		}
		a.mu.Unlock()
		t.mu.Lock()
		if !t.gone {
			return t
		}
		t.mu.Unlock()
	}
}

// forget takes a volume's entry, whose lock is held, from the map.
func (a *Attacher) forget(t *attached, volumeID string) error {
	t.gone = true
	a.mu.Lock()
	delete(a.volumes, volumeID)
	if len(a.volumes) == 0 && a.empty != nil {
		close(a.empty)
		a.empty = nil
	}
	a.mu.Unlock()
	return removeDir(a.dir(volumeID))
}

// show and hide keep what List returns.
func (a *Attacher) show(device attach.Device) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.devices == nil {
		a.devices = map[string]attach.Device{}
	}
	a.devices[device.VolumeID] = device
}

func (a *Attacher) hide(volumeID string) {
	a.mu.Lock()
	defer a.mu.Unlock()
	delete(a.devices, volumeID)
}

// List returns the attached volumes.
func (a *Attacher) List(context.Context) ([]attach.Device, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	return slices.SortedFunc(maps.Values(a.devices), func(x, y attach.Device) int {
		return strings.Compare(x.VolumeID, y.VolumeID)
	}), nil
}

// Resize makes a device as large as its image.
func (a *Attacher) Resize(ctx context.Context, volumeID string) (attach.Device, error) {
	return a.fly(ctx, "resize/"+volumeID, "resize", func(ctx context.Context) (attach.Device, error) {
		t := a.take(volumeID)
		defer t.mu.Unlock()
		if t.image == nil {
			return attach.Device{}, errors.Join(fault.Errorf(fault.NotFound, "volume %s is not attached", volumeID), a.forget(t, volumeID))
		}
		device, err := t.resize(ctx)
		if err == nil && !t.releasing {
			a.show(device)
		}
		return device, err
	})
}

func (t *attached) resize(ctx context.Context) (attach.Device, error) {
	step.Enter(ctx, "resize "+t.state.Device.Path)
	if err := loop.Refresh(t.state.Device.Path); err != nil {
		return attach.Device{}, err
	}
	size, err := loop.Size(t.state.Device.Path)
	if err != nil {
		return attach.Device{}, err
	}
	t.state.Device.Size = size
	return t.state.Device, nil
}

// Drained returns a channel that is closed when no volume is attached.
func (a *Attacher) Drained() <-chan struct{} {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.empty == nil {
		a.empty = make(chan struct{})
	}
	drained := a.empty
	if len(a.volumes) == 0 {
		close(a.empty)
		a.empty = nil
	}
	return drained
}

// connectTimeout bounds a connection's making; what runs over it is not bounded.
const connectTimeout = time.Minute

// connect returns the connection for some credentials, which all volumes of the
// node share: fencing is by node.
func (a *Attacher) connect(ctx context.Context, credentials ceph.Credentials) (ceph.Conn, error) {
	step.Enter(ctx, "connect to cluster "+credentials.FSID)
	a.connecting.Lock()
	defer a.connecting.Unlock()
	if conn := a.conns[credentials]; conn != nil {
		return conn, nil
	}
	ctx, cancel := context.WithTimeout(ctx, connectTimeout)
	defer cancel()
	// No timeouts: where an operation must wait, an error would be a lost write.
	conn, err := a.Connector.Connect(ctx, credentials, ceph.ConnectOptions{})
	if err != nil {
		return nil, err
	}
	if a.conns == nil {
		a.conns = map[ceph.Credentials]ceph.Conn{}
	}
	a.conns[credentials] = conn
	return conn, nil
}

// dropConn forgets a connection that was fenced. It stays open: its images do.
func (a *Attacher) dropConn(credentials ceph.Credentials) {
	a.connecting.Lock()
	defer a.connecting.Unlock()
	delete(a.conns, credentials)
}
