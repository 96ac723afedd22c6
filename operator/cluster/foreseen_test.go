package cluster_test

import (
	"fmt"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
)

// diary notes each step that the operator does.
type diary struct{ steps []string }

func (d *diary) Eventf(_, _ runtime.Object, _, _, _, note string, args ...any) {
	if line := fmt.Sprintf(note, args...); !slices.Contains(d.steps, line) {
		d.steps = append(d.steps, line)
	}
}

// What is foreseen of an edit is what the operator then does, and nothing else.
func TestWhatIsForeseenHappens(t *testing.T) {
	for name, edit := range map[string]func(*v1alpha1.StorageCluster){
		"a device is taken out": func(c *v1alpha1.StorageCluster) {
			c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
		},
		"a device is exchanged": func(c *v1alpha1.StorageCluster) {
			c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
			c.Spec.Storage.Nodes[1].Devices = append(c.Spec.Storage.Nodes[1].Devices, v1alpha1.StorageDevice{Name: "disk2"})
		},
		"mons go": func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = 1 },
		"all restarts": func(c *v1alpha1.StorageCluster) {
			c.Spec.Ceph.Image = "ceph:next"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := fourOSDs(t)
			book := &diary{}
			r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test", Events: book}
			asked := s.cluster()
			edit(asked)
			writes := len(s.Writes())
			foreseen, err := r.Foresee(t.Context(), asked)
			require.NoError(t, err)
			require.Nil(t, foreseen.Blocker)
			require.Len(t, s.Writes(), writes, "asking writes nothing")
			var want []string
			for _, step := range foreseen.Steps {
				if line := step.What + ": " + step.Why; !isWait(step) {
					want = append(want, line)
				}
			}
			s.events = book
			s.edit(edit)
			s.converge()
			s.looks(3)
			require.ElementsMatch(t, want, book.steps)
		})
	}
}

func isWait(step v1alpha1.PlanStep) bool { return len(step.What) > 5 && step.What[:5] == "wait " }
