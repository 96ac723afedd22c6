package crash

import (
	"bytes"
	"context"
	"errors"
	"fmt"
	"net"
	"os"
	"path/filepath"
	"strconv"
	"strings"
	"sync"
	"sync/atomic"
	"testing/synctest"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"
	"google.golang.org/grpc/test/bufconn"

	fakeattach "github.com/cairn-storage/cairn/csi/attach/fake"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/durable"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/kms"
	"github.com/cairn-storage/cairn/csi/node"
	"github.com/cairn-storage/cairn/csi/node/host"
	fakehost "github.com/cairn-storage/cairn/csi/node/host/fake"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const (
	fsid   = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"
	pool   = "p"
	nodeID = "node-1"
)

// world is all that outlives a process: the cluster, the node's kernel and disk.
// Its processes come and go.
type world struct {
	plan     *plan
	mutant   mutant
	cluster  *model.Cluster
	attacher *fakeattach.Attacher
	host     *fakehost.Host
	direct   ceph.Conn
	dir      string
	secrets  connections.Static

	controller, node *process
}

// process is one that serves a part of the driver.
type process struct {
	life *life
	stop context.CancelFunc
	conn *grpc.ClientConn
	serv *grpc.Server
}

func newWorld(ctx context.Context, dir string, p *plan, m mutant) (*world, error) {
	cluster := model.New(fsid)
	direct, err := cluster.Connect(ctx, ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	if err != nil {
		return nil, err
	}
	if err := direct.EnsurePool(ctx, ceph.PoolSpec{Name: pool, Size: 1, Application: "rbd"}); err != nil {
		return nil, err
	}
	w := &world{plan: p, mutant: m, cluster: cluster, direct: direct, dir: dir,
		attacher: &fakeattach.Attacher{Connector: cluster}, host: fakehost.New(deviceNumber),
		secrets: connections.Static{fsid: {FSID: fsid, MonHost: "m", User: "u", Key: "k"}}}
	w.host.Unclean, w.host.Replay = w.unclean, w.replay
	for _, d := range []string{w.kubelet(), filepath.Join(dir, "state")} {
		if err := os.MkdirAll(d, 0o750); err != nil {
			return nil, err
		}
	}
	return w, w.revive()
}

func (w *world) kubelet() string { return filepath.Join(w.dir, "kubelet") }

func deviceNumber(path string) *host.Number {
	n, err := strconv.ParseUint(strings.TrimPrefix(path, "/dev/fake"), 10, 32)
	if err != nil || !strings.HasPrefix(path, "/dev/fake") {
		return nil
	}
	return &host.Number{Major: 240, Minor: uint32(n)}
}

// replayed is what is in an image, at replayedAt, once the log of its filesystem was replayed.
var replayed = []byte("replayed")

const replayedAt = 2 << 20

// unclean says of a device whether the log of its filesystem was not replayed.
func (w *world) unclean(device string) bool {
	_, image := w.attacher.Image(device)
	got := make([]byte, len(replayed))
	_, err := image.ReadAt(got, replayedAt)
	return err != nil || !bytes.Equal(got, replayed)
}

// replay replays the log of a device's filesystem, which nobody may be reading.
func (w *world) replay(device string) error {
	code, image := w.attacher.Image(device)
	id, err := volumeid.Parse(code)
	if err != nil {
		return err
	}
	info, err := w.direct.ImageInfo(context.Background(), id.Image)
	if err == nil && info.Metadata[imagemeta.Log] != imagemeta.LogPending {
		err = errors.New("the volume may be read, and its log is replayed")
	}
	if err == nil {
		_, err = image.WriteAt(replayed, replayedAt)
	}
	return err
}

// revive starts the processes that do not run.
func (w *world) revive() (err error) {
	if w.controller == nil {
		if w.controller, err = w.start(w.startController); err != nil {
			return fmt.Errorf("start the controller: %w", err)
		}
	}
	if w.node == nil {
		if w.node, err = w.start(w.startNode); err != nil {
			return fmt.Errorf("start the node plugin: %w", err)
		}
	}
	return nil
}

// bury removes what is left of the processes that died.
func (w *world) bury() {
	for _, p := range []**process{&w.controller, &w.node} {
		if *p != nil && (*p).life.isDead() {
			(*p).end()
			*p = nil
		}
	}
}

// end ends the world, and what its dead left hanging in it.
func (w *world) end() {
	defer close(w.plan.over)
	for _, p := range []**process{&w.controller, &w.node} {
		if *p != nil {
			(*p).end()
			*p = nil
		}
	}
}

func (p *process) end() {
	p.life.bury()
	p.stop()
	if p.conn != nil {
		_ = p.conn.Close()
	}
	p.serv.Stop()
}

var runs atomic.Int64

// start starts a process that serves what setUp registers. It may die of it.
func (w *world) start(setUp func(ctx context.Context, l *life, s *grpc.Server) error) (*process, error) {
	ctx, stop := context.WithCancel(context.Background())
	p := &process{life: newLife(w.plan), stop: stop, serv: server.New(server.Options{})}
	ready := make(chan error, 1)
	go func() { ready <- setUp(ctx, p.life, p.serv) }()
	select {
	case <-p.life.died:
		return p, nil
	case err := <-ready:
		if err != nil {
			stop()
			return nil, err
		}
	}
	listener := bufconn.Listen(64 << 10)
	go func() { _ = p.serv.Serve(listener) }()
	conn, err := grpc.NewClient("passthrough:"+nodeID,
		grpc.WithContextDialer(func(ctx context.Context, _ string) (net.Conn, error) { return listener.DialContext(ctx) }),
		grpc.WithTransportCredentials(insecure.NewCredentials()))
	p.conn = conn
	return p, err
}

// Time in a world passes when nothing else can happen.
const (
	// soon is enough for work in the background to be tried, and tried again.
	soon = 2 * time.Second
	// late is when all of it is done that can be: what a clone left behind counts
	// as left over after an hour.
	late = 70 * time.Minute
)

// settle lets the processes work in the background.
func settle(until time.Duration) {
	time.Sleep(until)
	synctest.Wait()
}

func (w *world) startController(ctx context.Context, l *life, s *grpc.Server) error {
	csi.RegisterIdentityServer(s, &identity.Server{Version: "test", Controller: true})
	clusters := connections.New(source{l, w.secrets}, w.mutant.connector(connector{l, w.cluster}), connections.Timeouts)
	everywhere := everywhere{l, places.Static{{FSID: fsid}}}
	work := upkeep.New(clusters, everywhere, upkeep.Defaults, nil)
	driver := &controller.Server{Clusters: clusters, Nodes: nodes{l, oneNode{}}, Places: everywhere,
		Volumes: volumes{l, noVolumes{}}, Upkeep: work, Keys: keys{l, &kms.Keys{}}}
	csi.RegisterControllerServer(s, driver)
	csi.RegisterGroupControllerServer(s, driver)
	csi.RegisterSnapshotMetadataServer(s, driver)
	go work.Run(ctx)
	return nil
}

func (w *world) startNode(ctx context.Context, l *life, s *grpc.Server) error {
	state, err := w.disk(l)
	if err != nil {
		return err
	}
	reached := w.mutant.connector(connector{l, w.cluster})
	n := &node.Server{ID: nodeID, KubeletDir: w.kubelet(), Method: "fake",
		Attacher: w.mutant.attacher(attacher{l, w.attacher}), Host: w.mutant.host(machine{l, w.host}),
		Journal: journal.Journal{Dir: w.mutant.journal(state)}, Credentials: source{l, w.secrets},
		Clusters:          connections.New(source{l, w.secrets}, reached, connections.Timeouts),
		EncryptedAttacher: attacher{l, w.attacher}, Keys: opener{l, &kms.Keys{}}, Labels: labels(l), Kernel: kernel{l, mapsNothing{}}}
	csi.RegisterIdentityServer(s, &identity.Server{Version: "test"})
	csi.RegisterNodeServer(s, n)
	if err := n.Reconcile(ctx); err != nil && w.plan.fault == Kill {
		return err // else the plugin serves all the same
	}
	return nil
}

// mapsNothing is a kernel that has no images mapped.
type mapsNothing struct{}

func (mapsNothing) Renew(context.Context, ceph.Credentials) (map[string]string, error) {
	return nil, nil
}

// disk is the node's disk as one process sees it: by a path of its own, so that
// what it changes there can be told from what another changes.
func (w *world) disk(l *life) (string, error) {
	path := filepath.Join(w.dir, fmt.Sprintf("run-%d", runs.Add(1)))
	if err := os.Symlink("state", path); err != nil {
		return "", err
	}
	disks.Store(path, l)
	return path + "/node", nil
}

// disks has the life that each path belongs to.
var disks sync.Map

// watchDisks makes boundaries of each change to a disk.
func watchDisks() {
	durable.Watch = func(change, path string) error {
		for dir := path; dir != "/"; dir = filepath.Dir(dir) {
			if l, ok := disks.Load(dir); ok {
				if l.(*life).boundary(change + " record") {
					return lost(change)
				}
			}
		}
		return nil
	}
}

func labels(l *life) node.Labels {
	return func(context.Context) (map[string]string, error) {
		return nil, l.call("Labels", func() error { return nil })
	}
}

type noVolumes struct{}

func (noVolumes) IDs(context.Context) ([]string, error)                  { return nil, nil }
func (noVolumes) Published(context.Context) (map[string][]string, error) { return nil, nil }

type oneNode struct{}

func (oneNode) Known(_ context.Context, id string) (bool, error) { return id == nodeID, nil }

// Invoke sends a call to the process that serves it.
func (w *world) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return w.serving(method).Invoke(ctx, method, args, reply, opts...)
}

// NewStream sends a call to the process that serves it.
func (w *world) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return w.serving(method).NewStream(ctx, desc, method, opts...)
}

func (w *world) serving(method string) *grpc.ClientConn {
	if strings.HasPrefix(method, "/csi.v1.Node/") {
		return w.node.conn
	}
	return w.controller.conn
}
