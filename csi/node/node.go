// Package node is the CSI Node service for block volumes. All that it does is
// written to the node's journal first, so that it may die between any two steps.
package node

import (
	"context"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/attach"
	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/node/host"
	"github.com/cairn-storage/cairn/csi/node/journal"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Clusters run calls against a cluster (connections.Manager).
type Clusters interface {
	Do(ctx context.Context, fsid string, f func(ceph.Block) error) error
}

// Server is the Node service.
type Server struct {
	csi.UnimplementedNodeServer
	// ID of this node: its name in Kubernetes.
	ID string
	// KubeletDir is kubelet's directory; all paths of requests are below it.
	KubeletDir string
	// Method names the way that Attacher attaches.
	Method      string
	Attacher    attach.Attacher
	Host        host.Host
	Journal     journal.Journal
	Credentials connections.Source
	// Clusters are asked for the metadata of images that are read only.
	Clusters Clusters
	// EncryptedAttacher attaches encrypted volumes where Attacher cannot; nil is
	// Attacher.
	EncryptedAttacher attach.Attacher
	// Kernel says by which users the kernel has images mapped, where neither of the two maps
	// them so: those of before the method was changed stay mapped. Nil is nobody.
	Kernel attach.Renewer
	// using are the users of the volumes that are being attached.
	using using
	// Keys opens the keys of encrypted volumes; nil opens none.
	Keys Keys
	// Labels of this node; nil has none.
	Labels Labels
	// MaxVolumes that this node takes at once; zero is no limit.
	MaxVolumes int64
}

var capabilities = []csi.NodeServiceCapability_RPC_Type{
	csi.NodeServiceCapability_RPC_STAGE_UNSTAGE_VOLUME,
	csi.NodeServiceCapability_RPC_EXPAND_VOLUME,
	csi.NodeServiceCapability_RPC_GET_VOLUME_STATS,
	csi.NodeServiceCapability_RPC_SINGLE_NODE_MULTI_WRITER,
	csi.NodeServiceCapability_RPC_GET_VOLUME_HEALTH,
	csi.NodeServiceCapability_RPC_GET_STORAGE_HEALTH,
}

// NodeGetCapabilities lists what the service can do.
func (s *Server) NodeGetCapabilities(context.Context, *csi.NodeGetCapabilitiesRequest) (*csi.NodeGetCapabilitiesResponse, error) {
	resp := &csi.NodeGetCapabilitiesResponse{}
	for _, c := range capabilities {
		resp.Capabilities = append(resp.Capabilities, &csi.NodeServiceCapability{
			Type: &csi.NodeServiceCapability_Rpc{Rpc: &csi.NodeServiceCapability_RPC{Type: c}}})
	}
	return resp, nil
}
