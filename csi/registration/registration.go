// Package registration tells kubelet of the driver: it serves kubelet's
// plugin-registration API on a socket in the directory that kubelet watches.
package registration

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"

	"google.golang.org/grpc"
	"k8s.io/klog/v2"
	v1 "k8s.io/kubelet/pkg/apis/pluginregistration/v1"

	"github.com/cairn-storage/cairn/csi/server"
)

// Plugin is what is registered.
type Plugin struct {
	// Driver is the CSI driver's name, Endpoint its socket as kubelet sees it.
	Driver, Endpoint string
	// Refused is called when kubelet does not take the driver.
	Refused func(reason string)
}

// Socket is where kubelet looks for a driver's registration.
func Socket(kubeletDir, driver string) string {
	return filepath.Join(kubeletDir, "plugins_registry", driver+"-reg.sock")
}

// Serve serves until the context ends.
func (p Plugin) Serve(ctx context.Context, socket string) error {
	s := grpc.NewServer()
	v1.RegisterRegistrationServer(s, &registrar{plugin: p})
	if err := server.Serve(ctx, s, socket); err != nil {
		return fmt.Errorf("registration: %w", err)
	}
	return nil
}

type registrar struct {
	v1.UnimplementedRegistrationServer
	plugin Plugin
}

// GetInfo says what is registered.
func (r *registrar) GetInfo(context.Context, *v1.InfoRequest) (*v1.PluginInfo, error) {
	return &v1.PluginInfo{Type: v1.CSIPlugin, Name: r.plugin.Driver, Endpoint: r.plugin.Endpoint, SupportedVersions: []string{"1.0.0"}}, nil
}

// NotifyRegistrationStatus hears what kubelet made of it.
func (r *registrar) NotifyRegistrationStatus(ctx context.Context, status *v1.RegistrationStatus) (*v1.RegistrationStatusResponse, error) {
	if status.GetPluginRegistered() {
		klog.FromContext(ctx).Info("Registered with kubelet", "driver", r.plugin.Driver)
		return &v1.RegistrationStatusResponse{}, nil
	}
	klog.FromContext(ctx).Error(errors.New(status.GetError()), "Kubelet did not take the driver", "driver", r.plugin.Driver)
	if r.plugin.Refused != nil {
		r.plugin.Refused(status.GetError())
	}
	return &v1.RegistrationStatusResponse{}, nil
}
