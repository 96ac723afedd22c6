package sidecar

import (
	"context"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	csiattacher "github.com/kubernetes-csi/external-attacher/v4/pkg/attacher"
	"github.com/kubernetes-csi/external-attacher/v4/pkg/controller"
	csitrans "k8s.io/csi-translation-lib"
	"k8s.io/klog/v2"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/csi/identity"
)

// addAttacher adds what publishes volumes to nodes.
func (c *Controllers) addAttacher(ctx context.Context) {
	core, storage := c.factory.Core().V1(), c.factory.Storage().V1()
	handler := controller.NewCSIHandler(
		c.options.Client,
		identity.DriverName,
		csiattacher.NewAttacher(c.conn),
		csiattacher.NewVolumeLister(c.conn, 0),
		core.PersistentVolumes().Lister(),
		storage.CSINodes().Lister(),
		storage.VolumeAttachments().Lister(),
		ptr.To(callTimeout),
		c.driver[csi.ControllerServiceCapability_RPC_PUBLISH_READONLY],
		c.driver[csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER],
		csitrans.New(),
		"ext4",
	)
	attach := controller.NewCSIAttachController(
		klog.FromContext(ctx),
		c.options.Client,
		identity.DriverName,
		handler,
		storage.VolumeAttachments(),
		core.PersistentVolumes(),
		backoff(),
		backoff(),
		false, // the driver does not list where volumes are published
		resync,
	)
	c.runnables = append(c.runnables, func(ctx context.Context, wg *sync.WaitGroup) { attach.Run(ctx, c.options.Workers, wg) })
}
