// Package driver runs the driver on a real Ceph as it runs on a node: controller,
// node plugin, attach process and keeper, each a process of its own that may be
// killed. The processes are the test's own program, started anew: see Main.
package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"

	"github.com/cairn-storage/cairn/csi/attach/keeper"
	"github.com/cairn-storage/cairn/csi/attach/process"
	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
)

// NodeID of the one node.
const NodeID = "node-1"

// env tells a process what it is.
const env = "CAIRN_TEST_DRIVER"

// The roles of processes.
const (
	Controller = "controller"
	Node       = "node"
	Attach     = "attach"
	Keeper     = "keeper"
)

// child is what a process is told.
type child struct {
	Role, Dir              string
	FSID, MonHost, Key     string
	MonTimeout, OSDTimeout time.Duration
}

// Main is the first call of a test's TestMain: in a process of the driver it does
// not return.
func Main() {
	text := os.Getenv(env)
	if text == "" {
		return
	}
	var c child
	err := json.Unmarshal([]byte(text), &c)
	if err == nil {
		err = c.run()
	}
	if err != nil {
		fmt.Fprintln(os.Stderr, c.Role, err)
		os.Exit(1)
	}
	os.Exit(0)
}

func (c child) run() error {
	ctx, stop := signal.NotifyContext(context.Background(), syscall.SIGTERM)
	defer stop()
	switch c.Role {
	case Controller:
		return c.controller(ctx)
	case Node:
		return c.node(ctx)
	case Attach:
		return process.Attach(ctx, c.state(), rados.Connector{}, filepath.Join(c.Dir, "run"), "")
	case Keeper:
		return keeper.Run(ctx, c.state().Keeper())
	}
	return errors.New("no such role")
}

func (c child) state() process.StateDir { return process.StateDir(filepath.Join(c.Dir, "state")) }

func (c child) socket(role string) string { return filepath.Join(c.Dir, role+".sock") }

func (c child) source() connections.Static {
	return connections.Static{c.FSID: {FSID: c.FSID, MonHost: c.MonHost, User: "admin", Key: ceph.Key(c.Key)}}
}

func (c child) clusters() *connections.Manager {
	return connections.New(c.source(), rados.Connector{}, ceph.ConnectOptions{MonTimeout: c.MonTimeout, OSDTimeout: c.OSDTimeout})
}

type oneNode struct{}

func (oneNode) Known(_ context.Context, id string) (bool, error) { return id == NodeID, nil }

func (c child) controller(ctx context.Context) error {
	clusters := c.clusters()
	everywhere := places.Static{{FSID: c.FSID}}
	work := upkeep.New(clusters, everywhere, upkeep.Defaults, nil)
	driver := &controller.Server{Clusters: clusters, Nodes: oneNode{}, Places: everywhere, Upkeep: work, Keys: &kms.Keys{}}
	go work.Run(ctx)
	return c.serve(ctx, func(s *grpc.Server) {
		csi.RegisterControllerServer(s, driver)
		csi.RegisterGroupControllerServer(s, driver)
		csi.RegisterSnapshotMetadataServer(s, driver)
	})
}

func (c child) node(ctx context.Context) error {
	driver := &node.Server{ID: NodeID, KubeletDir: filepath.Join(c.Dir, "kubelet"), Method: "fuse",
		Attacher: remote.NewClient(c.state().AttachSocket()), Host: host.NewLinux(),
		Journal: journal.Journal{Dir: filepath.Join(c.Dir, "journal")}, Credentials: c.source(), Clusters: c.clusters(), Keys: &kms.Keys{}}
	if err := driver.Reconcile(ctx); err != nil {
		return err
	}
	return c.serve(ctx, func(s *grpc.Server) { csi.RegisterNodeServer(s, driver) })
}

func (c child) serve(ctx context.Context, register func(*grpc.Server)) error {
	s := server.New(server.Options{})
	csi.RegisterIdentityServer(s, &identity.Server{Version: "test", Controller: c.Role == Controller})
	register(s)
	return server.Serve(ctx, s, c.socket(c.Role))
}
