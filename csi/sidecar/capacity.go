package sidecar

import (
	"context"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/capacity"
	"github.com/kubernetes-csi/external-provisioner/v6/pkg/capacity/topology"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/labels"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/util/workqueue"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"time"

	"github.com/cairn-storage/cairn/csi/identity"
)

const (
	capacityManager = "cairn-csi-controller"
	capacityPoll    = time.Minute
	capacityWorkers = 4
)

// addCapacity adds what publishes, as CSIStorageCapacities, how much room there is
// in each StorageClass for each place, and returns a provisioner that has them
// refreshed.
func (c *Controllers) addCapacity(provisioner controller.Provisioner) controller.Provisioner {
	core, storage := c.factory.Core().V1(), c.factory.Storage().V1()
	nodes := topology.NewNodeTopology(identity.DriverName, c.options.Client, core.Nodes(), storage.CSINodes(),
		workqueue.NewTypedRateLimitingQueueWithConfig(backoff(), workqueue.TypedRateLimitingQueueConfig[string]{Name: "topology"}))
	own := informers.NewSharedInformerFactoryWithOptions(c.options.Client, resync, informers.WithNamespace(c.options.Namespace), informers.WithTransform(trim),
		informers.WithTweakListOptions(func(o *metav1.ListOptions) {
			o.LabelSelector = labels.Set{capacity.DriverNameLabel: identity.DriverName, capacity.ManagedByLabel: capacityManager}.String()
		}))
	publish := capacity.NewCentralCapacityController(
		csi.NewControllerClient(c.conn),
		identity.DriverName,
		capacity.NewV1ClientFactory(c.options.Client),
		workqueue.NewTypedRateLimitingQueueWithConfig(
			workqueue.NewTypedItemExponentialFailureRateLimiter[capacity.QueueKey](retryStart, retryMax),
			workqueue.TypedRateLimitingQueueConfig[capacity.QueueKey]{Name: "capacity"}),
		nil, // they are found by their labels, and serve whichever process leads
		capacityManager,
		c.options.Namespace,
		nodes,
		storage.StorageClasses(),
		own.Storage().V1().CSIStorageCapacities(),
		capacityPoll,
		false, // a claim that is bound at once is not scheduled by room
		callTimeout,
	)
	c.runnables = append(c.runnables,
		func(ctx context.Context, _ *sync.WaitGroup) { nodes.RunWorker(ctx) },
		func(ctx context.Context, wg *sync.WaitGroup) {
			own.Start(ctx.Done())
			publish.Run(ctx, capacityWorkers, wg)
		})
	return capacity.NewProvisionWrapper(provisioner, publish)
}
