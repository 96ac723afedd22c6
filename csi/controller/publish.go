package controller

import (
	"context"
	"regexp"

	"github.com/container-storage-interface/spec/lib/go/csi"

	"github.com/cairn-storage/cairn/csi/capability"
	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/step"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// nodeForm is a Kubernetes node's name, which is a node's ID here.
var nodeForm = regexp.MustCompile(`^[a-z0-9]([a-z0-9.-]{0,251}[a-z0-9])?$`)

// ControllerPublishVolume lets a node have a volume. Nothing has to be done for
// it yet: the exclusive lock is taken by the node. This is where a volume that is
// still held by a lost node will be kept back.
func (s *Server) ControllerPublishVolume(ctx context.Context, req *csi.ControllerPublishVolumeRequest) (*csi.ControllerPublishVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	if req.GetNodeId() == "" {
		return nil, fault.Field(fault.Invalid, "node_id", "is empty")
	}
	want, err := capability.Parse(req.GetVolumeCapability(), "volume_capability")
	if err != nil {
		return nil, err
	}
	if req.GetReadonly() && !want.ReadOnly {
		return nil, fault.Field(fault.Invalid, "readonly", "is not supported: use a read-only access mode")
	}
	id, err := parseID(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	info, err := s.info(ctx, id)
	if err != nil {
		return nil, err
	}
	return &csi.ControllerPublishVolumeResponse{PublishContext: publishContext(info)}, s.checkNode(ctx, req.GetNodeId())
}

func (s *Server) info(ctx context.Context, id volumeid.ID) (info *ceph.ImageInfo, err error) {
	err = s.Clusters.Do(ctx, id.FSID, func(cluster ceph.Block) (err error) {
		step.Enter(ctx, "look at "+id.Image.String())
		info, err = cluster.ImageInfo(ctx, id.Image)
		return err
	})
	return info, err
}

func (s *Server) checkNode(ctx context.Context, node string) error {
	if !nodeForm.MatchString(node) {
		return fault.Field(fault.NotFound, "node_id", "%q is not a node's name", node)
	}
	step.Enter(ctx, "look up node "+node)
	known, err := s.Nodes.Known(ctx, node)
	if err != nil {
		return fault.Errorf(fault.Unavailable, "look up node %s: %w", node, err)
	}
	if !known {
		return fault.Field(fault.NotFound, "node_id", "the driver does not run on node %q", node)
	}
	return nil
}

// ControllerUnpublishVolume takes a volume from a node.
func (s *Server) ControllerUnpublishVolume(_ context.Context, req *csi.ControllerUnpublishVolumeRequest) (*csi.ControllerUnpublishVolumeResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	if node := req.GetNodeId(); node != "" && !nodeForm.MatchString(node) {
		return nil, fault.Field(fault.Invalid, "node_id", "%q is not a node's name", node)
	}
	return &csi.ControllerUnpublishVolumeResponse{}, nil
}

// ValidateVolumeCapabilities says whether a volume can be used in given ways.
func (s *Server) ValidateVolumeCapabilities(ctx context.Context, req *csi.ValidateVolumeCapabilitiesRequest) (*csi.ValidateVolumeCapabilitiesResponse, error) {
	if req.GetVolumeId() == "" {
		return nil, fault.Field(fault.Invalid, "volume_id", "is empty")
	}
	if len(req.GetVolumeCapabilities()) == 0 {
		return nil, fault.Field(fault.Invalid, "volume_capabilities", "is empty")
	}
	id, err := parseID(req.GetVolumeId())
	if err != nil {
		return nil, err
	}
	if _, err := s.info(ctx, id); err != nil {
		return nil, err
	}
	if reason := s.unfit(req); reason != nil {
		return &csi.ValidateVolumeCapabilitiesResponse{Message: reason.Error()}, nil
	}
	return &csi.ValidateVolumeCapabilitiesResponse{Confirmed: &csi.ValidateVolumeCapabilitiesResponse_Confirmed{
		VolumeContext:      req.GetVolumeContext(),
		VolumeCapabilities: req.GetVolumeCapabilities(),
		Parameters:         req.GetParameters(),
	}}, nil
}

func (s *Server) unfit(req *csi.ValidateVolumeCapabilitiesRequest) error {
	if _, err := capability.ParseAll(req.GetVolumeCapabilities()); err != nil {
		return err
	}
	if len(req.GetParameters()) == 0 {
		return nil
	}
	_, err := parseParameters(req.GetParameters())
	return err
}
