// Package controller is the CSI Controller service for block volumes, with those
// of group snapshots and of changed blocks. It keeps
// no journal: an image's name derives from the name that was asked for, so that
// the create itself, which only one can win, is what makes a repeat safe.
package controller

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Clusters runs calls against a cluster (connections.Manager).
type Clusters interface {
	Do(ctx context.Context, fsid string, f func(ceph.Block) error) error
}

// Nodes knows the nodes that volumes are published to.
type Nodes interface {
	// Known reports whether the driver runs on a node of this ID.
	Known(ctx context.Context, nodeID string) (bool, error)
}

// Server is the Controller service.
type Server struct {
	csi.UnimplementedControllerServer
	csi.UnimplementedGroupControllerServer
	csi.UnimplementedSnapshotMetadataServer
	Clusters Clusters
	Nodes    Nodes
	// Places that volumes and snapshots are listed from.
	Places places.Source
	// Volumes that Kubernetes knows; nil knows of none.
	Volumes Volumes
	// Upkeep does in the background what calls leave behind; nil leaves it.
	Upkeep *upkeep.Upkeep
	// Keys of encrypted volumes.
	Keys Keys

	usages usages
}

// Volumes knows the volumes of Kubernetes.
type Volumes interface {
	// IDs of all volumes of the driver.
	IDs(ctx context.Context) ([]string, error)
	// Published returns the nodes that volumes are published to, by volume ID.
	Published(ctx context.Context) (map[string][]string, error)
}

var capabilities = []csi.ControllerServiceCapability_RPC_Type{
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_VOLUME,
	csi.ControllerServiceCapability_RPC_PUBLISH_UNPUBLISH_VOLUME,
	csi.ControllerServiceCapability_RPC_EXPAND_VOLUME,
	csi.ControllerServiceCapability_RPC_MODIFY_VOLUME,
	csi.ControllerServiceCapability_RPC_CLONE_VOLUME,
	csi.ControllerServiceCapability_RPC_CREATE_DELETE_SNAPSHOT,
	csi.ControllerServiceCapability_RPC_LIST_SNAPSHOTS,
	csi.ControllerServiceCapability_RPC_GET_SNAPSHOT,
	csi.ControllerServiceCapability_RPC_GET_CAPACITY,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES,
	csi.ControllerServiceCapability_RPC_LIST_VOLUMES_PUBLISHED_NODES,
	csi.ControllerServiceCapability_RPC_GET_VOLUME,
	csi.ControllerServiceCapability_RPC_GET_VOLUME_HEALTH,
	csi.ControllerServiceCapability_RPC_LIST_VOLUME_HEALTH,
	csi.ControllerServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
}

// ControllerGetCapabilities lists what the service can do.
func (s *Server) ControllerGetCapabilities(context.Context, *csi.ControllerGetCapabilitiesRequest) (*csi.ControllerGetCapabilitiesResponse, error) {
	resp := &csi.ControllerGetCapabilitiesResponse{}
	for _, c := range capabilities {
		resp.Capabilities = append(resp.Capabilities, &csi.ControllerServiceCapability{
			Type: &csi.ControllerServiceCapability_Rpc{Rpc: &csi.ControllerServiceCapability_RPC{Type: c}}})
	}
	return resp, nil
}

// parseID reads the volume_id of a request about a volume that should exist: an
// ID that cannot be of this driver names none.
func parseID(code string) (volumeid.ID, error) { return parseVolumeID(code, "volume_id") }
