package sidecar

import (
	"context"
	"slices"

	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	listers "k8s.io/client-go/listers/storage/v1"

	"github.com/cairn-storage/cairn/csi/identity"
)

// Nodes knows, from the CSINodes, where the driver runs.
type Nodes struct {
	lister listers.CSINodeLister
	client kubernetes.Interface
}

// NewNodes returns what the informers, and behind them the API server, know.
func NewNodes(client kubernetes.Interface, factory informers.SharedInformerFactory) *Nodes {
	return &Nodes{lister: factory.Storage().V1().CSINodes().Lister(), client: client}
}

// Known looks into the cache, and asks the API server about a node that is not
// there: it may be new, or this process may not lead.
func (n *Nodes) Known(ctx context.Context, nodeID string) (bool, error) {
	if node, err := n.lister.Get(nodeID); err == nil && runs(node, nodeID) {
		return true, nil
	}
	node, err := n.client.StorageV1().CSINodes().Get(ctx, nodeID, metav1.GetOptions{})
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	return err == nil && runs(node, nodeID), err
}

func runs(node *storagev1.CSINode, nodeID string) bool {
	return slices.ContainsFunc(node.Spec.Drivers, func(d storagev1.CSINodeDriver) bool {
		return d.Name == identity.DriverName && d.NodeID == nodeID
	})
}
