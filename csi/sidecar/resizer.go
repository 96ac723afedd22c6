package sidecar

import (
	"context"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/controller"
	csiclient "github.com/kubernetes-csi/external-resizer/v2/pkg/csi"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/features"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/modifier"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/modifycontroller"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/resizer"

	"github.com/cairn-storage/cairn/csi/identity"
)

// addResizer adds what grows volumes, and what modifies them.
func (c *Controllers) addResizer(ctx context.Context) error {
	if !c.driver[csi.ControllerServiceCapability_RPC_EXPAND_VOLUME] {
		return nil
	}
	client, err := csiclient.New(ctx, "unix://"+c.options.Socket, callTimeout, c.options.Metrics)
	if err != nil {
		return fmt.Errorf("connect the resizer to the driver: %w", err)
	}
	driver, err := resizer.NewResizerFromClient(client, callTimeout, c.options.Client, identity.DriverName)
	if err != nil {
		return fmt.Errorf("make the resizer: %w", err)
	}
	resize := controller.NewResizeController(identity.DriverName, driver, c.options.Client, resync, c.factory, backoff(),
		false, // online growth is never refused for use; to handle that would cache all pods
		retryMax,
	)
	c.runnables = append(c.runnables, func(ctx context.Context, wg *sync.WaitGroup) { resize.Run(c.options.Workers, ctx, wg) })
	return c.addModifier(client)
}

// addModifier adds what changes volumes to another VolumeAttributesClass, where
// Kubernetes has that.
func (c *Controllers) addModifier(client csiclient.Client) error {
	has, err := features.IsVolumeAttributesClassV1Enabled(c.options.Client.Discovery())
	if err != nil {
		return fmt.Errorf("look for VolumeAttributesClasses: %w", err)
	}
	if !has || !c.driver[csi.ControllerServiceCapability_RPC_MODIFY_VOLUME] {
		return nil
	}
	driver, err := modifier.NewModifierFromClient(client, callTimeout, c.options.Client, c.factory, false, identity.DriverName)
	if err != nil {
		return fmt.Errorf("make the modifier: %w", err)
	}
	modify := modifycontroller.NewModifyController(identity.DriverName, driver, c.options.Client, resync, retryMax, false, c.factory, backoff())
	c.runnables = append(c.runnables, func(ctx context.Context, wg *sync.WaitGroup) { modify.Run(c.options.Workers, ctx, wg) })
	return nil
}
