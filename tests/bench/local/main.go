// Command local measures what needs Ceph's libraries but no Kubernetes: run it
// inside the build root. It prints each result as a line of JSON.
package main

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"os"
	"os/exec"
	"os/signal"
	"path/filepath"
	"syscall"
	"time"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/rados"
	"github.com/cairn-storage/cairn/tests/bench/result"
	"github.com/cairn-storage/cairn/tests/localceph"
)

const (
	pool = "bench"
	osds = 3
)

// bed is what a measurement stands on: a Ceph with a pool of three replicas.
type bed struct {
	dir     string
	cluster *localceph.Cluster
	conn    ceph.Conn
	pool    int64
	began   time.Time
}

func (b *bed) say(format string, args ...any) {
	fmt.Fprintf(os.Stderr, "%7.1fs    %s\n", time.Since(b.began).Seconds(), fmt.Sprintf(format, args...))
}

func main() {
	klog.LogToStderr(false)
	klog.SetOutput(io.Discard) // the driver's log is written as ever, to nowhere
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	err := run(ctx, os.Args[1:])
	stop()
	if err != nil {
		fmt.Fprintln(os.Stderr, err)
		os.Exit(1)
	}
}

func run(ctx context.Context, args []string) error {
	usage := errors.New("usage: local calls | fio | attach | floor DEVICE DEVICE DEVICE")
	if len(args) == 0 {
		return usage
	}
	if args[0] == "floor" {
		return floor(ctx, args[1:])
	}
	measure := map[string]func(context.Context, *bed, func(...result.Entry)) error{"calls": calls, "fio": fio, "attach": attachTimes}[args[0]]
	if measure == nil {
		return usage
	}
	b := &bed{began: time.Now()}
	if err := b.start(ctx); err != nil {
		return errors.Join(err, b.end())
	}
	output := json.NewEncoder(os.Stdout)
	return errors.Join(measure(ctx, b, func(entries ...result.Entry) {
		for _, e := range entries {
			_ = output.Encode(e)
		}
	}), b.end())
}

func (b *bed) start(ctx context.Context) (err error) {
	if _, err := exec.LookPath("ceph-osd"); err != nil {
		return fmt.Errorf("find Ceph's daemons (run this inside the build root): %w", err)
	}
	if b.dir, err = os.MkdirTemp("", "cairn-bench-*"); err != nil {
		return err
	}
	ctx, cancel := context.WithTimeout(ctx, 2*time.Minute)
	defer cancel()
	if b.cluster, err = localceph.Start(ctx, filepath.Join(b.dir, "ceph"), localceph.Options{OSDs: osds, OSDBytes: 8 << 30}); err != nil {
		return err
	}
	if b.conn, err = (rados.Connector{}).Connect(ctx, b.cluster.Credentials(), ceph.ConnectOptions{MonTimeout: 20 * time.Second}); err != nil {
		return err
	}
	spec := ceph.PoolSpec{Name: pool, Size: 3, FailureDomain: "osd", Application: "rbd"}
	if err := b.conn.EnsurePool(ctx, spec); err != nil {
		return err
	}
	b.pool, err = b.conn.PoolID(ctx, pool)
	b.say("Ceph is up, pool %q has three replicas", pool)
	return err
}

func (b *bed) end() error {
	var errs []error
	if b.conn != nil {
		errs = append(errs, b.conn.Close())
	}
	if b.cluster != nil {
		errs = append(errs, b.cluster.Stop())
	}
	if b.dir != "" {
		errs = append(errs, os.RemoveAll(b.dir))
	}
	return errors.Join(errs...)
}
