package sidecar

import (
	"context"
	"sync"

	csiprovisioner "github.com/kubernetes-csi/external-provisioner/v6/pkg/controller"
	"k8s.io/client-go/util/workqueue"
	csitrans "k8s.io/csi-translation-lib"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"github.com/cairn-storage/cairn/csi/identity"
)

// addProvisioner adds what makes and deletes volumes for claims, what keeps their
// sources until then, and what publishes how much room there is.
func (c *Controllers) addProvisioner(ctx context.Context) {
	core, storage := c.factory.Core().V1(), c.factory.Storage().V1()
	provisioner := c.addCapacity(csiprovisioner.NewCSIProvisioner(
		c.options.Client,
		callTimeout,
		c.options.Identity,
		"pvc", // names are pvc-<uid of the claim>
		-1,    // all of the uid
		c.conn,
		c.options.Snapshots,
		identity.DriverName,
		c.plugin,
		c.driver,
		"",    // no migration from an in-tree driver
		true,  // a volume for a pod is wanted where its node is
		false, // a volume for no pod is wanted anywhere
		csitrans.New(),
		storage.StorageClasses().Lister(),
		storage.CSINodes().Lister(),
		core.Nodes().Lister(),
		core.PersistentVolumeClaims().Lister(),
		storage.VolumeAttachments().Lister(),
		nil,    // data sources of other namespaces
		true,   // tell the driver the claim's name
		"ext4", // where the StorageClass names none
		nil,
		false,
		true, // a volume mode never changes on the way
		csiprovisioner.NewInMemoryStore(),
	))
	provision := controller.NewProvisionController(ctx, c.options.Client, identity.DriverName, provisioner,
		controller.LeaderElection(false),
		controller.FailedProvisionThreshold(0),
		controller.FailedDeleteThreshold(0),
		controller.RateLimiter(backoff()),
		controller.CreateProvisionedPVLimiter(backoff()),
		controller.RetryIntervalMax(retryMax),
		controller.Threadiness(c.options.Workers),
		controller.ClaimsInformer(core.PersistentVolumeClaims().Informer()),
		controller.VolumesInformer(core.PersistentVolumes().Informer()),
		controller.ClassesInformer(storage.StorageClasses().Informer()),
		controller.AddFinalizer(true),
	)
	c.runnables = append(c.runnables, func(ctx context.Context, _ *sync.WaitGroup) { provision.Run(ctx) })
	c.addFinalizers()
}

// addFinalizers adds what lets go of claims and snapshots that volumes were made from.
func (c *Controllers) addFinalizers() {
	claims := c.factory.Core().V1().PersistentVolumeClaims()
	cloning := csiprovisioner.NewCloningProtectionController(c.options.Client, claims.Lister(), claims.Informer(),
		workqueue.NewTypedRateLimitingQueueWithConfig(backoff(), workqueue.TypedRateLimitingQueueConfig[string]{Name: "clones"}), c.driver)
	c.runnables = append(c.runnables, func(ctx context.Context, wg *sync.WaitGroup) { cloning.Run(ctx, finalizerWorkers, wg) })
	if c.options.Snapshots == nil {
		return
	}
	restoring := csiprovisioner.NewSnapshotFinalizerController(c.options.Snapshots, claims.Lister(), c.driver, resync)
	c.runnables = append(c.runnables, func(ctx context.Context, wg *sync.WaitGroup) { restoring.Run(ctx, wg) })
}

const finalizerWorkers = 2
