// Package fake is an attacher for tests: its devices are numbers.
package fake

import (
	"context"
	"fmt"
	"sync"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Attacher opens images through a connector, as a real one would, and makes up
// the devices. Its zero value, but for the connector, is usable.
type Attacher struct {
	Connector ceph.Connector

	mu      sync.Mutex
	next    uint32
	devices map[string]attach.Device
	volumes map[string]attach.Volume
	images  map[string]ceph.Image
	err     error
}

// FailWith makes every call fail; nil ends it.
func (a *Attacher) FailWith(err error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	a.err = err
}

// Crash loses all devices, as when the attach process dies.
func (a *Attacher) Crash() {
	a.mu.Lock()
	defer a.mu.Unlock()
	for _, image := range a.images {
		_ = image.Close()
	}
	a.devices, a.volumes, a.images = nil, nil, nil
}

// Volume returns what a volume was attached with.
func (a *Attacher) Volume(id string) attach.Volume {
	a.mu.Lock()
	defer a.mu.Unlock()
	return a.volumes[id]
}

// Image returns what a device is of, open as the device has it; nil for none.
func (a *Attacher) Image(device string) (id string, image ceph.Image) {
	a.mu.Lock()
	defer a.mu.Unlock()
	for id, d := range a.devices {
		if d.Path == device {
			return id, a.images[id]
		}
	}
	return "", nil
}

// Attach opens the image.
func (a *Attacher) Attach(ctx context.Context, v attach.Volume) (attach.Device, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return attach.Device{}, a.err
	}
	if d, ok := a.devices[v.ID]; ok {
		if a.volumes[v.ID].ReadOnly != v.ReadOnly || a.volumes[v.ID].Exclusive != v.Exclusive {
			return attach.Device{}, fault.Errorf(fault.Conflict, "volume %s is attached in another mode", v.ID)
		}
		return d, nil
	}
	conn, err := a.Connector.Connect(ctx, v.Credentials, ceph.ConnectOptions{})
	if err != nil {
		return attach.Device{}, err
	}
	image, err := conn.OpenImage(ctx, v.Image, ceph.OpenOptions{ReadOnly: v.ReadOnly, Exclusive: v.Exclusive})
	if err != nil {
		return attach.Device{}, err
	}
	if a.devices == nil {
		a.devices, a.volumes, a.images = map[string]attach.Device{}, map[string]attach.Volume{}, map[string]ceph.Image{}
	}
	size, _ := image.Size()
	a.next++
	d := attach.Device{VolumeID: v.ID, Path: fmt.Sprintf("/dev/fake%d", a.next), Major: 240, Minor: a.next,
		Size: size, ReadOnly: v.ReadOnly, ClientAddrs: conn.ClientAddrs()}
	a.devices[v.ID], a.volumes[v.ID], a.images[v.ID] = d, v, image
	return d, nil
}

// Detach closes the image.
func (a *Attacher) Detach(_ context.Context, volumeID string) error {
	a.mu.Lock()
	defer a.mu.Unlock()
	if a.err != nil {
		return a.err
	}
	if image := a.images[volumeID]; image != nil {
		if err := image.Close(); err != nil {
			return err
		}
	}
	delete(a.devices, volumeID)
	delete(a.volumes, volumeID)
	delete(a.images, volumeID)
	return nil
}

// List returns what is attached.
func (a *Attacher) List(context.Context) ([]attach.Device, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	var devices []attach.Device
	for _, d := range a.devices {
		devices = append(devices, d)
	}
	return devices, a.err
}

// Resize takes the image's size.
func (a *Attacher) Resize(_ context.Context, volumeID string) (attach.Device, error) {
	a.mu.Lock()
	defer a.mu.Unlock()
	d, ok := a.devices[volumeID]
	switch {
	case a.err != nil:
		return attach.Device{}, a.err
	case !ok:
		return attach.Device{}, fault.Errorf(fault.NotFound, "volume %s is not attached", volumeID)
	}
	size, err := a.images[volumeID].Size()
	d.Size = size
	a.devices[volumeID] = d
	return d, err
}
