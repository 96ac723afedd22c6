package main

import (
	"context"
	"encoding/json"
	"fmt"

	"k8s.io/apimachinery/pkg/types"
	"k8s.io/client-go/rest"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// cairn reads and writes Cairn's own resources for a node.
type cairn struct {
	client          rest.Interface
	namespace, node string
}

// FSIDs of the clusters that there are.
func (c cairn) FSIDs(ctx context.Context) ([]string, error) {
	raw, err := c.client.Get().AbsPath("/apis/cairn.storage/v1alpha1/namespaces", c.namespace, "storageclusters").DoRaw(ctx)
	if err != nil {
		return nil, fmt.Errorf("list StorageClusters: %w", err)
	}
	var clusters v1alpha1.StorageClusterList
	if err := json.Unmarshal(raw, &clusters); err != nil {
		return nil, fmt.Errorf("decode StorageClusters: %w", err)
	}
	var fsids []string
	for i := range clusters.Items {
		if fsid := clusters.Items[i].Status.FSID; fsid != "" {
			fsids = append(fsids, fsid)
		}
	}
	return fsids, nil
}

// Say publishes which users the node uses, with its NodeStorage.
func (c cairn) Say(ctx context.Context, text string) error {
	patch, err := json.Marshal(map[string]any{"metadata": map[string]any{"annotations": map[string]string{v1alpha1.AnnotationCSIUsers: text}}})
	if err != nil {
		return fmt.Errorf("encode which CephX users are used: %w", err)
	}
	err = c.client.Patch(types.MergePatchType).AbsPath("/apis/cairn.storage/v1alpha1/nodestorages", c.node).Body(patch).Do(ctx).Error()
	if err != nil {
		return fmt.Errorf("say with NodeStorage %s which CephX users are used: %w", c.node, err)
	}
	return nil
}
