// Package volumes runs the driver's controller and node services against a real
// Ceph, with the real data path, as Kubernetes would for volumes of each kind. It
// needs root and Ceph: run it inside the build root.
package volumes

import (
	"context"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cairn-storage/cairn/csi/attach/fuse"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/kms/secret"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/csi/web"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/localceph"
)

const (
	pool   = "volumes"
	writer = csi.VolumeCapability_AccessMode_SINGLE_NODE_WRITER
	reader = csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY
	shared = csi.VolumeCapability_AccessMode_MULTI_NODE_MULTI_WRITER
)

// secrets of a StorageClass's Secret.
var secrets = map[string]string{secret.Field: "000102030405060708090a0b0c0d0e0f101112131415161718191a1b1c1d1e1f"}

// site is a cluster with its controller.
type site struct {
	*testing.T
	dir        string // of the cluster
	fsid       string
	source     connections.Static
	clusters   *connections.Manager
	conn       ceph.Conn
	controller csi.ControllerClient
}

func newSite(t *testing.T) *site {
	require.Zero(t, os.Geteuid(), "mounts need root")
	dir, err := os.MkdirTemp("", "cairn-volumes-*")
	require.NoError(t, err)
	cluster, err := localceph.Start(t.Context(), dir, localceph.Options{})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()); require.NoError(t, os.RemoveAll(dir)) })
	credentials := cluster.Credentials()
	conn, err := rados.Connector{}.Connect(t.Context(), credentials, connections.Timeouts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, conn.Close()) })
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: pool, Size: 1, FailureDomain: "osd", Application: "rbd"}))
	s := &site{T: t, dir: dir, fsid: credentials.FSID, source: connections.Static{credentials.FSID: credentials}, conn: conn}
	s.clusters = connections.New(s.source, rados.Connector{}, connections.Timeouts)
	s.controller = csi.NewControllerClient(s.serve(filepath.Join(t.TempDir(), "controller.sock"), s.registerController))
	return s
}

type anyNode struct{}

func (anyNode) Known(context.Context, string) (bool, error) { return true, nil }

func (s *site) registerController(g *grpc.Server) {
	everywhere := places.Static{{FSID: s.fsid}}
	work := upkeep.New(s.clusters, everywhere, upkeep.Defaults, nil)
	csi.RegisterControllerServer(g, &controller.Server{Clusters: s.clusters, Nodes: anyNode{}, Places: everywhere, Upkeep: work, Keys: &kms.Keys{}})
}

// serve serves through the driver's own chain until the test ends.
func (s *site) serve(socket string, register func(*grpc.Server)) *grpc.ClientConn {
	g := server.New(server.Options{})
	register(g)
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	listener, err := server.Listen(ctx, socket)
	require.NoError(s, err)
	done := make(chan error, 1)
	go func() { done <- server.ServeOn(ctx, g, listener) }()
	client, err := grpc.NewClient("unix://"+socket, grpc.WithTransportCredentials(insecure.NewCredentials()))
	require.NoError(s, err)
	s.Cleanup(func() { require.NoError(s, client.Close()); cancel(); require.NoError(s, <-done) })
	return client
}

// machine is a node with its attach service.
type machine struct {
	*site
	name, dir string
	csi.NodeClient
}

func (s *site) machine(name string) *machine {
	m := &machine{site: s, name: name, dir: s.TempDir()}
	attacher := &fuse.Attacher{Dir: filepath.Join(m.dir, "attach"), Connector: rados.Connector{}}
	socket := filepath.Join(m.dir, "attach.sock")
	ctx, cancel := context.WithCancel(context.WithoutCancel(s.Context()))
	listener, err := server.Listen(ctx, socket)
	require.NoError(s, err)
	done := make(chan error, 1)
	go func() { done <- web.ServeOn(ctx, listener, remote.Handler(attacher)) }()
	s.Cleanup(func() { cancel(); require.NoError(s, <-done) })
	m.NodeClient = csi.NewNodeClient(s.serve(filepath.Join(m.dir, "node.sock"), func(g *grpc.Server) {
		csi.RegisterIdentityServer(g, &identity.Server{Version: "test"})
		csi.RegisterNodeServer(g, &node.Server{ID: name, KubeletDir: m.dir, Method: "fuse", Attacher: remote.NewClient(socket), Host: host.NewLinux(),
			Journal: journal.Journal{Dir: filepath.Join(m.dir, "journal")}, Credentials: s.source, Clusters: s.clusters, Keys: &kms.Keys{}})
	}))
	return m
}

func capability(filesystem string, mode csi.VolumeCapability_AccessMode_Mode) *csi.VolumeCapability {
	c := &csi.VolumeCapability{AccessMode: &csi.VolumeCapability_AccessMode{Mode: mode}}
	if filesystem == "" {
		c.AccessType = &csi.VolumeCapability_Block{Block: &csi.VolumeCapability_BlockVolume{}}
	} else {
		c.AccessType = &csi.VolumeCapability_Mount{Mount: &csi.VolumeCapability_MountVolume{FsType: filesystem}}
	}
	return c
}

// volume makes a volume; change may be nil.
func (s *site) volume(size int64, c *csi.VolumeCapability, change func(*csi.CreateVolumeRequest)) *csi.Volume {
	req := &csi.CreateVolumeRequest{Name: "pvc-" + uuid.NewString(), CapacityRange: &csi.CapacityRange{RequiredBytes: size},
		VolumeCapabilities: []*csi.VolumeCapability{c}, Parameters: map[string]string{"clusterID": s.fsid, "pool": pool}, Secrets: secrets}
	if change != nil {
		change(req)
	}
	resp, err := s.controller.CreateVolume(s.within(), req)
	require.NoError(s, err)
	return resp.GetVolume()
}

func (s *site) snapshot(of *csi.Volume) func(*csi.CreateVolumeRequest) {
	resp, err := s.controller.CreateSnapshot(s.within(), &csi.CreateSnapshotRequest{Name: "snap-" + uuid.NewString(), SourceVolumeId: of.GetVolumeId()})
	require.NoError(s, err)
	return func(r *csi.CreateVolumeRequest) {
		r.VolumeContentSource = &csi.VolumeContentSource{Type: &csi.VolumeContentSource_Snapshot{
			Snapshot: &csi.VolumeContentSource_SnapshotSource{SnapshotId: resp.GetSnapshot().GetSnapshotId()}}}
	}
}

// within is how long one call may take.
func (s *site) within() context.Context {
	ctx, cancel := context.WithTimeout(s.Context(), 90*time.Second)
	s.Cleanup(cancel)
	return ctx
}

func (m *machine) staging(v *csi.Volume) string {
	return filepath.Join(m.dir, "staging", v.GetVolumeId())
}
func (m *machine) target(v *csi.Volume) string {
	return filepath.Join(m.dir, "target", v.GetVolumeId())
}

// stage publishes a volume to the node and stages it there.
func (m *machine) stage(v *csi.Volume, c *csi.VolumeCapability) error {
	published, err := m.controller.ControllerPublishVolume(m.within(), &csi.ControllerPublishVolumeRequest{VolumeId: v.GetVolumeId(), NodeId: m.name, VolumeCapability: c})
	require.NoError(m, err)
	_, err = m.NodeStageVolume(m.within(), &csi.NodeStageVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: m.staging(v), VolumeCapability: c,
		VolumeContext: v.GetVolumeContext(), PublishContext: published.GetPublishContext(), Secrets: secrets})
	return err
}

// up gives a volume to a pod, and returns where.
func (m *machine) up(v *csi.Volume, c *csi.VolumeCapability) string {
	require.NoError(m, m.stage(v, c))
	_, err := m.NodePublishVolume(m.within(), &csi.NodePublishVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: m.staging(v), TargetPath: m.target(v), VolumeCapability: c})
	require.NoError(m, err)
	return m.target(v)
}

func (m *machine) down(v *csi.Volume) {
	_, err := m.NodeUnpublishVolume(m.within(), &csi.NodeUnpublishVolumeRequest{VolumeId: v.GetVolumeId(), TargetPath: m.target(v)})
	require.NoError(m, err)
	_, err = m.NodeUnstageVolume(m.within(), &csi.NodeUnstageVolumeRequest{VolumeId: v.GetVolumeId(), StagingTargetPath: m.staging(v)})
	require.NoError(m, err)
}
