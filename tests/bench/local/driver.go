package main

import (
	"context"
	"path/filepath"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// driver is the Controller service, served and called through its socket as
// `cairn-csi controller` does.
type driver struct {
	csi.ControllerClient
	parameters map[string]string
	ids        sync.Map // name → ID of a volume or snapshot
	end        func()
}

func startDriver(ctx context.Context, b *bed) (*driver, error) {
	ctx, cancel := context.WithCancel(ctx)
	credentials := b.cluster.Credentials()
	clusters := connections.New(connections.Static{credentials.FSID: credentials}, rados.Connector{}, connections.Timeouts)
	s := server.New(server.Options{Metrics: prometheus.NewRegistry()})
	csi.RegisterIdentityServer(s, &identity.Server{Version: "bench", Controller: true})
	csi.RegisterControllerServer(s, &controller.Server{Clusters: clusters})
	socket := filepath.Join(b.dir, "csi.sock")
	listener, err := server.Listen(ctx, socket)
	if err != nil {
		cancel()
		return nil, err
	}
	served := make(chan error, 1)
	go func() { served <- server.ServeOn(ctx, s, listener) }()
	channel, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	if err != nil {
		cancel()
		return nil, err
	}
	return &driver{
		ControllerClient: csi.NewControllerClient(channel),
		parameters:       map[string]string{"clusterID": credentials.FSID, "pool": pool},
		end: func() {
			_ = channel.Close()
			cancel()
			<-served
			_ = clusters.Close()
		},
	}, nil
}

const imageSize = 1 << 30

func (d *driver) id(name string) string {
	id, _ := d.ids.Load(name)
	text, _ := id.(string)
	return text
}

func (d *driver) volume(ctx context.Context, name string, source *csi.VolumeContentSource) error {
	parameters := map[string]string{"csi.storage.k8s.io/pvc/namespace": "default", "csi.storage.k8s.io/pvc/name": "data-" + name[:12]}
	for key, value := range d.parameters {
		parameters[key] = value
	}
	resp, err := d.CreateVolume(ctx, &csi.CreateVolumeRequest{
		Name:                name,
		CapacityRange:       &csi.CapacityRange{RequiredBytes: imageSize},
		VolumeCapabilities:  []*csi.VolumeCapability{filesystem()},
		Parameters:          parameters,
		VolumeContentSource: source,
	})
	d.ids.Store(name, resp.GetVolume().GetVolumeId())
	return err
}

func (d *driver) snapshot(ctx context.Context, name, volume string) error {
	resp, err := d.CreateSnapshot(ctx, &csi.CreateSnapshotRequest{Name: name, SourceVolumeId: d.id(volume)})
	d.ids.Store(name, resp.GetSnapshot().GetSnapshotId())
	return err
}

// The sides of the driver. What an item is made of bears its name and a suffix.

func (d *driver) create(ctx context.Context, i item) error { return d.volume(ctx, i.name, nil) }

func (d *driver) delete(ctx context.Context, i item) error {
	_, err := d.DeleteVolume(ctx, &csi.DeleteVolumeRequest{VolumeId: d.id(i.name)})
	return err
}

func (d *driver) snap(ctx context.Context, i item) error { return d.snapshot(ctx, i.name+"-s", i.name) }

func (d *driver) createAndSnap(ctx context.Context, i item) error {
	if err := d.create(ctx, i); err != nil {
		return err
	}
	return d.snap(ctx, i)
}

func (d *driver) clone(ctx context.Context, i item) error {
	return d.volume(ctx, i.name+"-c", &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Volume{
		Volume: &csi.VolumeContentSource_VolumeSource{VolumeId: d.id(i.name)}}})
}

func (d *driver) restore(ctx context.Context, i item) error {
	return d.volume(ctx, i.name+"-c", &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
		Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: d.id(i.name + "-s")}}})
}

func filesystem() *csi.VolumeCapability {
	return &csi.VolumeCapability{
		AccessType: &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: "xfs"}},
		AccessMode: &csi.VolumeCapability_AccessMode{Mode: csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER},
	}
}
