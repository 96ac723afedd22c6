package sidecar

import (
	"context"
	"fmt"
	"sync"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/controller"
	csiclient "github.com/kubernetes-csi/external-resizer/v2/pkg/csi"
	"github.com/kubernetes-csi/external-resizer/v2/pkg/resizer"

	"github.com/cairn-storage/cairn/csi/identity"
)

// addResizer adds what grows volumes.
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
	return nil
}
