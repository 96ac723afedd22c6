// Package sidecar runs, inside the driver's controller process, what watches
// Kubernetes for it: the provisioner, the attacher, the resizer and the
// snapshotter. They are the CSI project's own, share one set of informers and one
// Lease, and call the driver over its own socket.
package sidecar

import (
	"context"
	"errors"
	"fmt"
	"runtime/debug"
	"sync"
	"time"

	"github.com/kubernetes-csi/csi-lib-utils/connection"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/kubernetes-csi/csi-lib-utils/rpc"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"google.golang.org/grpc"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/client-go/informers"
	coreinformers "k8s.io/client-go/informers/core/v1"
	storageinformers "k8s.io/client-go/informers/storage/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/cache"
	"k8s.io/client-go/util/workqueue"

	"github.com/cairn-storage/cairn/csi/identity"
)

// Options of the controllers.
type Options struct {
	Client    kubernetes.Interface
	Informers informers.SharedInformerFactory
	// Snapshots is the client of snapshot objects; without it there are none.
	Snapshots snapshots.Interface
	// Socket of the driver.
	Socket string
	// Namespace of the Lease, and Identity in it.
	Namespace, Identity string
	// Workers of each controller.
	Workers int
	Metrics metrics.CSIMetricsManager
	// Leading is run beside the controllers while this process leads.
	Leading func(context.Context)
}

const (
	// callTimeout bounds each call to the driver.
	callTimeout = time.Minute
	resync      = 10 * time.Minute
	retryStart  = 500 * time.Millisecond
	retryMax    = time.Minute
	// giveBackEvery is long beside what a collection takes of one CPU, even of large caches.
	giveBackEvery = 30 * time.Second
)

// Controllers are what runs while this process leads.
type Controllers struct {
	options   Options
	factory   informers.SharedInformerFactory
	conn      *grpc.ClientConn
	plugin    rpc.PluginCapabilitySet
	driver    rpc.ControllerCapabilitySet
	runnables []func(context.Context, *sync.WaitGroup)
}

// Informers returns the one set of informers of the controllers, not started.
func Informers(client kubernetes.Interface) informers.SharedInformerFactory {
	factory := informers.NewSharedInformerFactoryWithOptions(client, resync, informers.WithTransform(trim))
	// Those that there are many of, and in no namespace, need no index of namespaces.
	factory.InformerFor(&corev1.PersistentVolume{}, func(client kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return coreinformers.NewPersistentVolumeInformer(client, resync, cache.Indexers{})
	})
	factory.InformerFor(&storagev1.VolumeAttachment{}, func(client kubernetes.Interface, resync time.Duration) cache.SharedIndexInformer {
		return storageinformers.NewVolumeAttachmentInformer(client, resync, cache.Indexers{})
	})
	return factory
}

// New connects to the driver and makes the controllers.
func New(ctx context.Context, options Options) (*Controllers, error) {
	conn, err := connection.Connect(ctx, "unix://"+options.Socket, options.Metrics)
	if err != nil {
		return nil, fmt.Errorf("connect to the driver: %w", err)
	}
	c := &Controllers{options: options, conn: conn, factory: options.Informers}
	if err := c.prepare(ctx); err != nil {
		return nil, errors.Join(err, conn.Close())
	}
	return c, nil
}

func (c *Controllers) prepare(ctx context.Context) (err error) {
	asking, cancel := context.WithTimeout(ctx, callTimeout)
	defer cancel()
	if c.plugin, err = rpc.GetPluginCapabilities(asking, c.conn); err != nil {
		return fmt.Errorf("ask the driver for its capabilities: %w", err)
	}
	if c.driver, err = rpc.GetControllerCapabilities(asking, c.conn); err != nil {
		return fmt.Errorf("ask the driver for its capabilities: %w", err)
	}
	c.options.Metrics.SetDriverName(identity.DriverName)
	c.addProvisioner(ctx)
	c.addAttacher(ctx)
	c.addSnapshotter()
	if c.options.Leading != nil {
		c.runnables = append(c.runnables, func(ctx context.Context, _ *sync.WaitGroup) { c.options.Leading(ctx) })
	}
	return c.addResizer(ctx)
}

// Run runs the controllers until the context ends or the lead is lost.
func (c *Controllers) Run(ctx context.Context) error {
	defer func() { _ = c.conn.Close() }()
	o := c.options
	return lead(ctx, lease{o.Client, o.Namespace, leaseName, o.Identity}, func(ctx context.Context) {
		c.factory.Start(ctx.Done())
		c.factory.WaitForCacheSync(ctx.Done())
		var wg sync.WaitGroup
		wg.Go(func() { giveBack(ctx) })
		for _, run := range c.runnables {
			wg.Go(func() { run(ctx, &wg) })
		}
		wg.Wait()
	})
}

// giveBack has garbage collected and its memory given back to the system, from time
// to time. The caches come to rest after their first lists, and hardly grow or
// shrink then: the runtime alone would keep what those were decoded from for the
// next burst.
func giveBack(ctx context.Context) {
	ticker := time.NewTicker(giveBackEvery)
	defer ticker.Stop()
	for {
		debug.FreeOSMemory()
		select {
		case <-ctx.Done():
			return
		case <-ticker.C:
		}
	}
}

func backoff() workqueue.TypedRateLimiter[string] {
	return workqueue.NewTypedItemExponentialFailureRateLimiter[string](retryStart, retryMax)
}
