package sidecar

import (
	"context"
	"sync"

	csiprovisioner "github.com/kubernetes-csi/external-provisioner/v6/pkg/controller"
	csitrans "k8s.io/csi-translation-lib"
	"sigs.k8s.io/sig-storage-lib-external-provisioner/v13/controller"

	"github.com/cairn-storage/cairn/csi/identity"
)

// addProvisioner adds what makes and deletes volumes for claims.
func (c *Controllers) addProvisioner(ctx context.Context) {
	core, storage := c.factory.Core().V1(), c.factory.Storage().V1()
	provisioner := csiprovisioner.NewCSIProvisioner(
		c.options.Client,
		callTimeout,
		c.options.Identity,
		"pvc", // names are pvc-<uid of the claim>
		-1,    // all of the uid
		c.conn,
		nil, // snapshots
		identity.DriverName,
		c.plugin,
		c.driver,
		"", // no migration from an in-tree driver
		false,
		false,
		csitrans.New(),
		storage.StorageClasses().Lister(),
		nil, // topology: CSINodes
		nil, // and nodes
		core.PersistentVolumeClaims().Lister(),
		storage.VolumeAttachments().Lister(),
		nil,    // data sources of other namespaces
		true,   // tell the driver the claim's name
		"ext4", // where the StorageClass names none
		nil,
		false,
		true, // a volume mode never changes on the way
		nil,
	)
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
}
