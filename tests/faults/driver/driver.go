package driver

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"syscall"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/grpc"
	"google.golang.org/grpc/credentials/insecure"

	"github.com/cairn-storage/cairn/csi/attach/remote"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/faults/scenario"
	"github.com/cairn-storage/cairn/tests/localceph"
)

// Pool of the volumes.
const Pool = "volumes"

// Driver is the running driver. It sends each call to the process that serves it.
type Driver struct {
	Dir     string
	Cluster ceph.Conn // beside the driver
	Ceph    *localceph.Cluster
	Claimed map[string]bool

	child     child
	processes map[string]*Process
}

// Process is one of the driver's.
type Process struct {
	cmd  *exec.Cmd
	conn *grpc.ClientConn
	done chan struct{}
}

// Start starts a driver with its state below a directory, its connections with
// these timeouts.
func Start(ctx context.Context, c *localceph.Cluster, dir string, timeouts ceph.ConnectOptions) (*Driver, error) {
	conn, err := rados.Connector{}.Connect(ctx, c.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second, OSDTimeout: 20 * time.Second})
	if err != nil {
		return nil, err
	}
	if err := prepare(ctx, conn); err != nil {
		return nil, err
	}
	d := &Driver{Dir: dir, Cluster: conn, Ceph: c, processes: map[string]*Process{}, child: child{Dir: dir, FSID: c.FSID, MonHost: c.MonHost,
		Key: c.AdminKey.Reveal(), MonTimeout: timeouts.MonTimeout, OSDTimeout: timeouts.OSDTimeout}}
	for _, sub := range []string{"state/keeper", "state/attach", "kubelet"} {
		if err := os.MkdirAll(filepath.Join(dir, sub), 0o750); err != nil {
			return nil, err
		}
	}
	for _, role := range []string{Keeper, Attach, Controller, Node} {
		if err := d.Restart(ctx, role); err != nil {
			return nil, errors.Join(err, d.Stop())
		}
	}
	d.Claimed, err = scenario.Claimed(ctx, d)
	return d, err
}

// prepare makes the pool. Watches of clients that were killed end sooner than
// usual: that is what their images wait for. So does the trimming of snapshots,
// until when objects are there that nothing names.
func prepare(ctx context.Context, conn ceph.Conn) error {
	return errors.Join(
		conn.SetConfig(ctx, "osd", "osd_client_watch_timeout", "3"),
		conn.SetConfig(ctx, "osd", "osd_snap_trim_sleep", "0.001"),
		conn.EnsurePool(ctx, ceph.PoolSpec{Name: Pool, Size: 1, FailureDomain: "osd", Application: "rbd"}))
}

// Restart kills a process if it runs, and returns when a new one serves.
func (d *Driver) Restart(ctx context.Context, role string) error {
	d.Kill(role)
	c := d.child
	c.Role = role
	text, err := json.Marshal(c)
	if err != nil {
		return err
	}
	log, err := os.OpenFile(filepath.Join(d.Dir, role+".log"), os.O_CREATE|os.O_APPEND|os.O_WRONLY, 0o600)
	if err != nil {
		return err
	}
	p := &Process{cmd: exec.Command(os.Args[0]), done: make(chan struct{})}
	p.cmd.Env = append(os.Environ(), env+"="+string(text))
	p.cmd.Stdout, p.cmd.Stderr = log, log
	p.cmd.SysProcAttr = &syscall.SysProcAttr{Pdeathsig: syscall.SIGKILL}
	if err := errors.Join(p.cmd.Start(), log.Close()); err != nil {
		return err
	}
	go func() {
		_ = p.cmd.Wait()
		close(p.done)
	}()
	d.processes[role] = p
	return d.await(ctx, role, p)
}

func (d *Driver) await(ctx context.Context, role string, p *Process) (err error) {
	probe := func() error { return nil }
	switch role {
	case Controller, Node:
		p.conn, err = grpc.NewClient("unix://"+d.child.socket(role), grpc.WithTransportCredentials(insecure.NewCredentials()))
		if err != nil {
			return err
		}
		probe = func() error {
			_, err := csi.NewIdentityClient(p.conn).Probe(ctx, &csi.ProbeRequest{}, grpc.WaitForReady(true))
			return err
		}
	case Attach:
		client := remote.NewClient(d.child.state().AttachSocket())
		probe = func() error { _, err := client.List(ctx); return err }
	}
	for tick := time.NewTicker(20 * time.Millisecond); ; {
		if err = probe(); err == nil {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the process %s does not serve: %w\n%s", role, err, d.Said(role))
		case <-p.done:
			return fmt.Errorf("the process %s ended:\n%s", role, d.Said(role))
		case <-tick.C:
		}
	}
}

// Kill ends a process at once.
func (d *Driver) Kill(role string) {
	p := d.processes[role]
	if p == nil {
		return
	}
	_ = p.cmd.Process.Kill()
	<-p.done
	if p.conn != nil {
		_ = p.conn.Close()
	}
	delete(d.processes, role)
}

// Said is the end of what a process logged.
func (d *Driver) Said(role string) string {
	raw, _ := os.ReadFile(filepath.Join(d.Dir, role+".log"))
	return string(raw[max(0, len(raw)-2000):])
}

// Stop ends the driver.
func (d *Driver) Stop() error {
	for _, role := range []string{Controller, Node, Attach, Keeper} {
		d.Kill(role)
	}
	return d.Cluster.Close()
}

// Serving is the role that serves a method.
func Serving(method string) string {
	if strings.HasPrefix(method, "/csi.v1.Node/") {
		return Node
	}
	return Controller
}

// Invoke sends a call to the process that serves it.
func (d *Driver) Invoke(ctx context.Context, method string, args, reply any, opts ...grpc.CallOption) error {
	return d.processes[Serving(method)].conn.Invoke(ctx, method, args, reply, append(opts, grpc.WaitForReady(true))...)
}

// NewStream sends a call to the process that serves it.
func (d *Driver) NewStream(ctx context.Context, desc *grpc.StreamDesc, method string, opts ...grpc.CallOption) (grpc.ClientStream, error) {
	return d.processes[Serving(method)].conn.NewStream(ctx, desc, method, append(opts, grpc.WaitForReady(true))...)
}

// Env is where a case is carried out.
func (d *Driver) Env(name string) *scenario.Env {
	return &scenario.Env{Conn: d, Cluster: d.Cluster, FSID: d.Ceph.FSID, Pool: Pool, Dir: filepath.Join(d.Dir, "kubelet"),
		NodeID: NodeID, Name: name, Claimed: d.Claimed}
}
