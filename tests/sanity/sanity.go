// Package sanity runs the CSI project's own conformance suite, csi-sanity,
// against Cairn's block driver: the real Controller and Node services behind
// their real sockets.
package sanity

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/google/uuid"
	"github.com/kubernetes-csi/csi-test/v5/pkg/sanity"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// NodeID is the node of the driver under test.
const NodeID = "node-1"

// Driver is what the driver under test stands on.
type Driver struct {
	Connector   ceph.Connector
	Credentials ceph.Credentials
	Pool        string
	Attacher    attach.Attacher
	Host        host.Host
	// VolumeSize in bytes.
	VolumeSize int64
	// Filesystem and AccessType (mount, block) of the volumes.
	AccessType string
}

type oneNode struct{}

func (oneNode) Known(_ context.Context, id string) (bool, error) { return id == NodeID, nil }

// ids makes volume IDs that are well formed, of a cluster and a pool that are there.
type ids struct {
	sanity.DefaultIDGenerator
	fsid string
	pool int64
}

func (g ids) GenerateUniqueValidVolumeID() string {
	code, err := volumeid.ID{FSID: g.fsid, Image: ceph.ImageRef{PoolID: g.pool, Name: "absent-" + uuid.NewString()}}.Encode()
	if err != nil {
		panic(err)
	}
	return code
}

// Run runs the suite.
func Run(t *testing.T, d Driver) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	conn, err := d.Connector.Connect(ctx, d.Credentials, connections.Timeouts)
	require.NoError(t, err)
	pool, err := conn.PoolID(ctx, d.Pool)
	require.NoError(t, err)

	dir := t.TempDir()
	controllerSocket, nodeSocket := filepath.Join(dir, "controller.sock"), filepath.Join(dir, "node.sock")
	source := connections.Static{d.Credentials.FSID: d.Credentials}
	clusters := connections.New(source, d.Connector, connections.Timeouts)
	everywhere := places.Static{{FSID: d.Credentials.FSID}}
	work := upkeep.New(clusters, everywhere, upkeep.Defaults, nil)
	driver := &controller.Server{Clusters: clusters, Nodes: oneNode{}, Places: everywhere, Upkeep: work}
	upkept := make(chan struct{})
	go func() {
		defer close(upkept)
		work.Run(ctx)
	}()
	stopped := []chan error{
		d.serve(ctx, t, controllerSocket, &identity.Server{Version: "test", Controller: true}, func(s *grpc.Server) {
			csi.RegisterControllerServer(s, driver)
			csi.RegisterGroupControllerServer(s, driver)
			csi.RegisterSnapshotMetadataServer(s, driver)
		}),
		d.serve(ctx, t, nodeSocket, &identity.Server{Version: "test", Controller: true}, func(s *grpc.Server) {
			csi.RegisterNodeServer(s, &node.Server{ID: NodeID, KubeletDir: dir, Method: "test", Attacher: d.Attacher, Host: d.Host,
				Journal: journal.Journal{Dir: filepath.Join(dir, "journal")}, Credentials: source, Clusters: clusters})
		}),
	}

	config := sanity.NewTestConfig()
	config.Address, config.ControllerAddress = "unix://"+nodeSocket, "unix://"+controllerSocket
	config.TargetPath, config.StagingPath = filepath.Join(dir, "target"), filepath.Join(dir, "staging")
	config.TestVolumeSize, config.TestVolumeExpandSize = d.VolumeSize, 2*d.VolumeSize
	config.TestVolumeAccessType = d.AccessType
	config.TestVolumeParameters = map[string]string{"clusterID": d.Credentials.FSID, "pool": d.Pool}
	config.TestVolumeMutableParameters = map[string]string{"iops": "1000", "readBandwidth": "100Mi"}
	config.TestInvalidListVolumesStartingToken = "not-a-token"
	config.IDGen = ids{fsid: d.Credentials.FSID, pool: pool}
	sanity.Test(t, config)

	d.leavesNothing(t, conn, dir)
	cancel()
	<-upkept
	for _, done := range stopped {
		require.NoError(t, <-done)
	}
}

func (d Driver) serve(ctx context.Context, t *testing.T, socket string, id *identity.Server, register func(*grpc.Server)) chan error {
	s := server.New(server.Options{})
	csi.RegisterIdentityServer(s, id)
	register(s)
	listener, err := server.Listen(ctx, socket)
	require.NoError(t, err)
	done := make(chan error, 1)
	go func() { done <- server.ServeOn(ctx, s, listener) }()
	return done
}

// leavesNothing checks that the suite's volumes are gone, everywhere: their images
// too, once upkeep has removed them.
func (d Driver) leavesNothing(t *testing.T, conn ceph.Conn, dir string) {
	ctx := context.Background()
	devices, err := d.Attacher.List(ctx)
	require.NoError(t, err)
	require.Empty(t, devices, "devices that are left")
	records, err := os.ReadDir(filepath.Join(dir, "journal"))
	if err == nil {
		require.Empty(t, records, "records that are left")
	}
	require.Eventually(t, func() bool {
		images, err := conn.PoolImages(ctx, d.Pool)
		require.NoError(t, err)
		return len(images) == 0
	}, time.Minute, 20*time.Millisecond, "images that are left")
}

// Name says which run of the suite this is, in the environment of the process:
// the suite runs once in a process.
const Name = "CAIRN_SANITY_ACCESS"

// AccessType of this process's run.
func AccessType() string {
	if t := os.Getenv(Name); t != "" {
		return t
	}
	return "mount"
}

// Again is the environment that runs the suite for another access type.
func Again(accessType string) []string {
	return append(os.Environ(), fmt.Sprintf("%s=%s", Name, accessType))
}
