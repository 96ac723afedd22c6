// Package fuse attaches images in user space: librbd serves the image as one file
// through FUSE, and a loop device with direct I/O makes the file a block device.
// The process that does this is the data path of its volumes. What the kernel
// knows it by is held by a keeper (package keeper), so that another process can go
// on where this one ended.
package fuse

import (
	"context"
	"errors"
	"fmt"
	"maps"
	"os"
	"slices"
	"strings"
	"sync"

	"golang.org/x/sync/singleflight"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/attach/keeper"
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
	// Keeper holds what must outlive this process; without one the volumes end with it.
	Keeper *keeper.Client
	// Again has this process end and another one go on with its volumes.
	Again func()

	flight  singleflight.Group
	conns   connections
	mu      sync.Mutex
	volumes map[string]*attached
	devices map[string]attach.Device // those that work
	leaving bool
}

// attached is one attached volume. Its lock is held by whoever changes it.
type attached struct {
	mu        sync.Mutex
	volume    attach.Volume // without its secrets
	kept      kept
	fds       descriptors
	image     ceph.Image
	session   ceph.FUSESession
	device    attach.Device
	resumed   bool // from an earlier process
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
	v.ReadOnly = v.ReadOnly || v.Snapshot != 0
	v.Exclusive = v.Exclusive && !v.ReadOnly
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
	t, err := a.enter(ctx, v.ID)
	if err != nil {
		return attach.Device{}, err
	}
	defer t.mu.Unlock()
	if t.image != nil {
		return t.again(v)
	}
	if err := a.build(ctx, t, v); err != nil {
		return attach.Device{}, errors.Join(err, a.forget(t, v.ID))
	}
	a.show(t.device)
	klog.InfoS("Attached", "volume", v.ID, "device", t.device.Path, "readOnly", v.ReadOnly, "exclusive", v.Exclusive)
	return t.device, nil
}

// again answers a repeat.
func (t *attached) again(v attach.Volume) (attach.Device, error) {
	switch {
	case t.releasing:
		return attach.Device{}, fault.Errorf(fault.Pending, "volume %s is being detached", v.ID)
	case t.volume.ReadOnly != v.ReadOnly || t.volume.Exclusive != v.Exclusive || t.volume.Snapshot != v.Snapshot:
		return attach.Device{}, fault.Errorf(fault.Conflict, "volume %s is attached in another mode", v.ID)
	}
	return t.device, nil
}

// build goes from nothing to a device; on an error it leaves nothing.
func (a *Attacher) build(ctx context.Context, t *attached, v attach.Volume) error {
	t.volume = v
	t.volume.Credentials, t.volume.Passphrase = ceph.Credentials{}, ""
	t.kept = kept{BootID: durable.BootID(), Volume: t.volume, File: fileName()}
	if err := a.open(ctx, t, secrets{v.Credentials, v.Passphrase}); err != nil {
		return err
	}
	if err := a.bind(ctx, t, v); err != nil {
		err = errors.Join(err, t.image.Close())
		t.image = nil
		return err
	}
	return nil
}

// open opens a volume's image.
func (a *Attacher) open(ctx context.Context, t *attached, s secrets) error {
	v := t.volume
	which := connection{s.Credentials, !v.Exclusive && !v.ReadOnly, v.Near}
	conn, err := a.connect(ctx, which)
	if err != nil {
		return err
	}
	// Before the image is open: who comes after this process fences it by that.
	err = a.save(v.ID, state{BootID: t.kept.BootID, File: t.kept.File, FSID: s.Credentials.FSID, Addrs: conn.ClientAddrs()})
	if err != nil && !t.resumed {
		return err
	}
	if err != nil { // its I/O waits, and the keeper has the address, too
		klog.ErrorS(err, "It is not written down who serves the volume", "volume", v.ID)
	}
	step.Enter(ctx, "open "+v.Image.String())
	image, err := conn.OpenImage(ctx, v.Image, ceph.OpenOptions{
		ReadOnly: v.ReadOnly, Exclusive: v.Exclusive, Passphrase: s.Passphrase, Snapshot: v.Snapshot})
	// A session keeps the caps that it began with: a pool may be newer.
	if ceph.Is(err, ceph.Fenced) || ceph.Is(err, ceph.Forbidden) && a.old(which) {
		a.setAside(which)
	}
	if v.Exclusive {
		image, err = a.own(ctx, conn, t, image, err)
	}
	if err != nil {
		return err
	}
	t.image, t.device.ClientAddrs = image, conn.ClientAddrs()
	return nil
}

// bind serves an image, hands what serves it to the keeper, and binds its file to
// a loop device.
func (a *Attacher) bind(ctx context.Context, t *attached, v attach.Volume) (err error) {
	if t.fds, err = newDescriptors(v); err != nil {
		return err
	}
	step.Enter(ctx, "export "+v.Image.String())
	file, err := expose(t.fds.device, a.dir(v.ID), t.kept.File, v.ReadOnly, func() error { return t.serve(ctx, false, false) })
	if err == nil {
		t.kept.Resends = t.session.Resends()
		if err = a.hand(ctx, t); err == nil {
			err = a.bindLoop(ctx, t, v, file)
		}
		// The device, if there is one, has the file open now.
		err = errors.Join(err, file.Close())
	}
	if err != nil {
		return errors.Join(err, a.end(ctx, t))
	}
	return nil
}

// serve begins to answer the kernel.
func (t *attached) serve(ctx context.Context, resume, resend bool) error {
	step.Enter(ctx, "serve "+t.volume.Image.String())
	server, ok := t.image.(ceph.FUSEServer)
	if !ok {
		return fault.Errorf(fault.Unavailable, "%s cannot be served through FUSE", t.volume.Image)
	}
	session, err := server.ServeFUSE(ceph.FUSEOptions{
		Device: t.fds.device, Log: t.fds.log, File: t.kept.File,
		ReadOnly: t.volume.ReadOnly, WriteBack: t.volume.Exclusive, Resume: resume, Resend: resend})
	t.session = session
	return err
}

func (a *Attacher) bindLoop(ctx context.Context, t *attached, v attach.Volume, file *os.File) error {
	step.Enter(ctx, "bind a loop device to "+t.volume.Image.String())
	bound, err := loop.Bind(ctx, file, t.volume.ReadOnly)
	if err != nil {
		return err
	}
	if err := t.found(bound); err != nil {
		return errors.Join(err, loop.Release(bound.Path, t.kept.File))
	}
	return nil
}

// found notes which device a volume is.
func (t *attached) found(bound loop.Device) error {
	size, err := loop.Size(bound.Path)
	t.device = attach.Device{VolumeID: t.volume.ID, Path: bound.Path, Major: bound.Major, Minor: bound.Minor,
		Size: size, ReadOnly: t.volume.ReadOnly, ClientAddrs: t.device.ClientAddrs}
	return err
}

// end ends the serving of an image whose file is closed.
func (a *Attacher) end(ctx context.Context, t *attached) error {
	var err error
	if t.session != nil {
		step.Enter(ctx, "wait for the kernel to let go of the image's file")
		<-t.session.Done()
		err = t.session.Stop()
		t.session = nil
	}
	return errors.Join(err, a.drop(ctx, t), t.fds.close())
}

func (a *Attacher) detach(ctx context.Context, volumeID string) error {
	t, err := a.enter(ctx, volumeID)
	if err != nil {
		return err
	}
	defer t.mu.Unlock()
	if t.image == nil {
		return a.forget(t, volumeID)
	}
	step.Enter(ctx, "release "+t.device.Path)
	err = loop.Release(t.device.Path, t.kept.File)
	if errors.Is(err, loop.ErrHeld) {
		return err
	}
	t.releasing = true
	a.hide(volumeID)
	if err != nil {
		return err
	}
	if err := a.end(ctx, t); err != nil {
		klog.ErrorS(err, "The volume did not end cleanly", "volume", volumeID)
	}
	step.Enter(ctx, "close "+t.volume.Image.String())
	if err := t.image.Close(); err != nil {
		klog.ErrorS(err, "The image did not close cleanly", "volume", volumeID)
	}
	klog.InfoS("Detached", "volume", volumeID, "device", t.device.Path)
	return a.forget(t, volumeID)
}

// enter is take for a call; refused when this process is about to end.
func (a *Attacher) enter(ctx context.Context, volumeID string) (*attached, error) {
	step.Enter(ctx, "wait for what else is done with the volume")
	t := a.take(volumeID)
	a.mu.Lock()
	leaving := a.leaving
	a.mu.Unlock()
	if leaving {
		t.mu.Unlock()
		return nil, fault.Errorf(fault.Unavailable, "the attach process is being replaced")
	}
	return t, nil
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
		t, err := a.enter(ctx, volumeID)
		if err != nil {
			return attach.Device{}, err
		}
		defer t.mu.Unlock()
		if t.image == nil {
			return attach.Device{}, errors.Join(fault.Errorf(fault.NotFound, "volume %s is not attached", volumeID), a.forget(t, volumeID))
		}
		err = t.resize(ctx)
		if err == nil && !t.releasing {
			a.show(t.device)
		}
		return t.device, err
	})
}

func (t *attached) resize(ctx context.Context) error {
	step.Enter(ctx, "resize "+t.device.Path)
	if err := loop.Refresh(t.device.Path); err != nil {
		return err
	}
	size, err := loop.Size(t.device.Path)
	if err != nil {
		return err
	}
	t.device.Size = size
	return nil
}
