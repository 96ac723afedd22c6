// Package lab brings up a real Kubernetes on one Linux machine, for demos and
// tests: each node has network, mount, PID and UTS namespaces of its own, its own
// containerd and kubelet, and loop devices as disks, so that a node can be cut
// off, frozen or killed. There is one lab on a machine; its state is on disk, so
// that any process (root's) can use a lab that another one brought up.
package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"time"

	"golang.org/x/sync/errgroup"
)

// Options say what Up brings up.
type Options struct {
	Nodes    int   `json:"nodes"`
	Disks    int   `json:"disks"`    // of each node
	DiskSize int64 `json:"diskSize"` // in bytes
}

// DefaultOptions are three nodes of two disks.
func DefaultOptions() Options {
	return Options{Nodes: 3, Disks: 2, DiskSize: 10 << 30}
}

const (
	maxNodes      = 9
	maxDisks      = 16
	minDiskSize   = 512 << 20 // the least that Ceph takes
	readyDeadline = 90 * time.Second
)

func (o Options) validate() error {
	if o.Nodes < 1 || o.Nodes > maxNodes {
		return fmt.Errorf("nodes: %d is not between 1 and %d", o.Nodes, maxNodes)
	}
	if o.Disks < 0 || o.Disks > maxDisks {
		return fmt.Errorf("disks: %d is not between 0 and %d", o.Disks, maxDisks)
	}
	if o.DiskSize < minDiskSize {
		return fmt.Errorf("disk-size: %d bytes is less than 512Mi", o.DiskSize)
	}
	return nil
}

// Up brings the lab up, or leaves it as it is when it is already up with these
// options. What a crash left behind is cleaned first.
func Up(ctx context.Context, options Options) error {
	if err := options.validate(); err != nil {
		return err
	}
	if err := needHost(); err != nil {
		return err
	}
	unlock, err := lock()
	if err != nil {
		return err
	}
	defer unlock()

	steps := newProgress()
	if current, err := loadOptions(); err == nil && current == options && running(current) {
		return steps.run("lab is up already: wait for its nodes", func() error {
			return waitNodesReady(ctx, options.Nodes, readyDeadline)
		})
	}
	if err := bringUp(ctx, options, steps); err != nil {
		return fmt.Errorf("%w (logs: %s; clean up with: lab down)", err, logDir())
	}
	steps.done("lab is up")
	return nil
}

func bringUp(ctx context.Context, options Options, steps *progress) error {
	if err := steps.run("check packages and addresses", checkMachine); err != nil {
		return err
	}
	if leftovers() {
		if err := steps.run("clean what an earlier lab left", func() error { return clean(ctx) }); err != nil {
			return err
		}
	}
	if err := checkAddresses(); err != nil {
		return err
	}
	if err := steps.run("Kubernetes "+kubernetesVersion, func() error { return EnsureKubernetes(ctx) }); err != nil {
		return err
	}
	if err := steps.run("images", func() error { return ensureImages(ctx) }); err != nil {
		return err
	}
	if err := steps.run("network, cgroups and disks", func() error { return prepare(ctx, options) }); err != nil {
		return err
	}
	group, groupCtx := errgroup.WithContext(ctx)
	group.Go(func() error {
		return steps.run("control plane", func() error { return startControlPlane(groupCtx) })
	})
	for index := 1; index <= options.Nodes; index++ {
		node := nodeAt(index)
		group.Go(func() error {
			if err := node.start(groupCtx, true); err != nil {
				return err
			}
			return steps.run(node.Name+": load images", func() error { return node.load(groupCtx, nil) })
		})
	}
	if err := group.Wait(); err != nil {
		return err
	}
	if err := steps.run("host's service routing", func() error { return startHostProxy(ctx) }); err != nil {
		return err
	}
	return steps.run("nodes ready", func() error { return waitNodesReady(ctx, options.Nodes, readyDeadline) })
}

// prepare makes everything that nodes and control plane stand on.
func prepare(ctx context.Context, options Options) error {
	if err := makeStateDirs(options); err != nil {
		return err
	}
	if err := saveOptions(options); err != nil {
		return err
	}
	if err := writeBaseline(); err != nil {
		return err
	}
	if err := makeLoopNodes(); err != nil {
		return err
	}
	if err := makeCgroups(options.Nodes); err != nil {
		return err
	}
	if err := makeBridge(ctx, options.Nodes); err != nil {
		return err
	}
	if err := writeCertificates(options.Nodes); err != nil {
		return err
	}
	for index := 1; index <= options.Nodes; index++ {
		for disk := 1; disk <= options.Disks; disk++ {
			if err := makeDisk(ctx, diskName(nodeName(index), disk), options.DiskSize); err != nil {
				return err
			}
		}
	}
	return nil
}

// running tells whether every process that Up started still lives.
func running(options Options) bool {
	for _, name := range controlParts {
		if !alive(name) {
			return false
		}
	}
	for index := 1; index <= options.Nodes; index++ {
		if !alive(nodeName(index)) {
			return false
		}
	}
	return true
}

// Exists tells whether there is a lab, whole or not.
func Exists() bool {
	_, err := os.Stat(optionsFile())
	return !errors.Is(err, fs.ErrNotExist)
}
