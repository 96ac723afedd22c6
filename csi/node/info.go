package node

import (
	"context"
	"errors"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/step"
)

// Labels returns the labels that this node has in Kubernetes.
type Labels func(ctx context.Context) (map[string]string, error)

// topologyLabels are Kubernetes' labels of what the driver's keys say.
var topologyLabels = map[string]string{
	identity.TopologyPrefix + "region": corev1.LabelTopologyRegion,
	identity.TopologyPrefix + "zone":   corev1.LabelTopologyZone,
	identity.TopologyPrefix + "host":   corev1.LabelHostname,
}

// labelTimeout bounds the reading of the node's labels: kubelet registers the
// driver again when it gets no answer.
const labelTimeout = 10 * time.Second

// NodeGetInfo says which node this is, where it is, and how many volumes it takes.
func (s *Server) NodeGetInfo(ctx context.Context, _ *csi.NodeGetInfoRequest) (*csi.NodeGetInfoResponse, error) {
	if s.ID == "" {
		return nil, errors.New("the node's name is not known")
	}
	segments, err := s.topology(ctx)
	if err != nil {
		return nil, err
	}
	return &csi.NodeGetInfoResponse{
		NodeId: s.ID, MaxVolumesPerNode: s.MaxVolumes,
		AccessibleTopology: &csi.Topology{Segments: segments},
	}, nil
}

// topology is where the node is, by its labels. A node's own name stands for its
// host's where that has no label.
func (s *Server) topology(ctx context.Context) (map[string]string, error) {
	segments := map[string]string{identity.TopologyPrefix + "host": s.ID}
	labels, err := s.labels(ctx)
	if err != nil {
		return nil, err
	}
	for key, label := range topologyLabels {
		if value := labels[label]; value != "" {
			segments[key] = value
		}
	}
	return segments, nil
}

// labels are those that this node has in Kubernetes, if there is one.
func (s *Server) labels(ctx context.Context) (map[string]string, error) {
	if s.Labels == nil {
		return nil, nil
	}
	step.Enter(ctx, "read the labels of node "+s.ID)
	ctx, cancel := context.WithTimeout(ctx, labelTimeout)
	defer cancel()
	labels, err := s.Labels(ctx)
	if err != nil {
		return nil, fault.Errorf(fault.Unavailable, "read the labels of node %s: %w", s.ID, err)
	}
	return labels, nil
}
