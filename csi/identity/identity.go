// Package identity is the CSI Identity service.
package identity

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"google.golang.org/protobuf/types/known/wrapperspb"
)

// DriverName is the block driver's name in StorageClasses and CSINodes.
const DriverName = "block.csi.cairn.storage"

// TopologyPrefix begins the keys of where nodes are.
const TopologyPrefix = "topology." + DriverName + "/"

// TopologyKeys say where a node is, and which nodes a volume can be used on.
var TopologyKeys = []string{TopologyPrefix + "region", TopologyPrefix + "zone", TopologyPrefix + "host"}

// Server is the Identity service.
type Server struct {
	csi.UnimplementedIdentityServer
	// Version of the driver.
	Version string
	// Controller: this process serves the Controller service too.
	Controller bool
	// Ready says whether the driver can serve; nil is always.
	Ready func(context.Context) error
}

// GetPluginInfo names the driver.
func (s *Server) GetPluginInfo(context.Context, *csi.GetPluginInfoRequest) (*csi.GetPluginInfoResponse, error) {
	return &csi.GetPluginInfoResponse{Name: DriverName, VendorVersion: s.Version}, nil
}

// GetPluginCapabilities says which services there are.
func (s *Server) GetPluginCapabilities(context.Context, *csi.GetPluginCapabilitiesRequest) (*csi.GetPluginCapabilitiesResponse, error) {
	resp := &csi.GetPluginCapabilitiesResponse{Capabilities: []*csi.PluginCapability{
		{Type: &csi.PluginCapability_VolumeExpansion_{VolumeExpansion: &csi.PluginCapability_VolumeExpansion{
			Type: csi.PluginCapability_VolumeExpansion_ONLINE}}},
	}}
	services := []csi.PluginCapability_Service_Type{csi.PluginCapability_Service_VOLUME_ACCESSIBILITY_CONSTRAINTS}
	if s.Controller {
		services = append(services, csi.PluginCapability_Service_CONTROLLER_SERVICE,
			csi.PluginCapability_Service_GROUP_CONTROLLER_SERVICE, csi.PluginCapability_Service_SNAPSHOT_METADATA_SERVICE)
	}
	for _, service := range services {
		resp.Capabilities = append(resp.Capabilities, &csi.PluginCapability{Type: &csi.PluginCapability_Service_{
			Service: &csi.PluginCapability_Service{Type: service}}})
	}
	return resp, nil
}

// Probe says whether the driver is ready.
func (s *Server) Probe(ctx context.Context, _ *csi.ProbeRequest) (*csi.ProbeResponse, error) {
	if s.Ready != nil {
		if err := s.Ready(ctx); err != nil {
			return nil, err
		}
	}
	return &csi.ProbeResponse{Ready: wrapperspb.Bool(true)}, nil
}
