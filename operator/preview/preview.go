// Package preview says what resources would do before they are made: 'kubectl
// cairn plan' asks for it in the operator's pod. It writes nothing.
package preview

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"

	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/pool"
)

// Answer is what one resource would do.
type Answer struct {
	Kind    string `json:"kind"`
	Name    string `json:"name"`
	Problem string `json:"problem,omitempty"`
	cluster.Foresight
}

// Foreseer asks the operator's planners.
type Foreseer struct {
	Cluster *cluster.Reconciler
	Pool    *pool.Reconciler
}

// Answer reads a List of StorageClusters and BlockPools as they are to be, and
// writes what each would do: as text, or as JSON.
func (f *Foreseer) Answer(ctx context.Context, asked io.Reader, format string, to io.Writer) error {
	var list corev1.List
	if err := json.NewDecoder(asked).Decode(&list); err != nil {
		return fmt.Errorf("read the resources: %w", err)
	}
	answers := make([]Answer, 0, len(list.Items))
	for _, item := range list.Items {
		answer, err := f.one(ctx, item.Raw)
		if err != nil {
			return err
		}
		answers = append(answers, *answer)
	}
	switch format {
	case "json":
		encoder := json.NewEncoder(to)
		encoder.SetIndent("", "  ")
		return encoder.Encode(answers)
	case "text":
		var failed error
		for i := range answers {
			failed = errors.Join(failed, answers[i].write(to))
		}
		return failed
	}
	return fmt.Errorf("format %q: must be text or json", format)
}

func (f *Foreseer) one(ctx context.Context, raw []byte) (*Answer, error) {
	var kind metav1.PartialObjectMetadata
	if err := json.Unmarshal(raw, &kind); err != nil {
		return nil, fmt.Errorf("read a resource: %w", err)
	}
	answer := &Answer{Kind: kind.Kind, Name: kind.Name}
	switch kind.Kind {
	case "StorageCluster":
		var c v1alpha1.StorageCluster
		if err := json.Unmarshal(raw, &c); err != nil {
			return nil, fmt.Errorf("read StorageCluster %s: %w", kind.Name, err)
		}
		if c.Namespace != f.Cluster.Namespace {
			answer.Problem = fmt.Sprintf("Cairn runs clusters in its own namespace only: %s", f.Cluster.Namespace)
			return answer, nil
		}
		foresight, err := f.Cluster.Foresee(ctx, &c)
		if err != nil {
			return nil, fmt.Errorf("StorageCluster %s: %w", kind.Name, err)
		}
		answer.Foresight = *foresight
		return answer, nil
	case "BlockPool":
		var p v1alpha1.BlockPool
		if err := json.Unmarshal(raw, &p); err != nil {
			return nil, fmt.Errorf("read BlockPool %s: %w", kind.Name, err)
		}
		foresight, problem, err := f.Pool.Foresee(ctx, &p)
		if err != nil {
			return nil, fmt.Errorf("BlockPool %s: %w", kind.Name, err)
		}
		if answer.Problem = problem; foresight != nil {
			answer.Foresight = *foresight
		}
		return answer, nil
	}
	return nil, fmt.Errorf("%s %s: only a StorageCluster or a BlockPool has a plan", kind.Kind, kind.Name)
}
