package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"k8s.io/apimachinery/pkg/runtime"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/upgrade"
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
			c.Spec.Ceph.Image = "cairn.storage/ceph:20.2.5"
		},
	} {
		t.Run(name, func(t *testing.T) {
			s := fourOSDs(t)
			s.Image("cairn.storage/ceph:20.2.5", "20.2.5")
			s.happensAsForeseen(edit)
		})
	}
}

func TestAnUpgradeHappensAsForeseen(t *testing.T) {
	s := reefSite(t)
	s.happensAsForeseen(func(c *v1alpha1.StorageCluster) { c.Spec.Ceph.Image = upgrade.Shipped })
}

func (s *site) happensAsForeseen(edit func(*v1alpha1.StorageCluster)) {
	s.t.Helper()
	book := &diary{}
	r := &cluster.Reconciler{Client: s.client, Live: s.Client, Connections: s.Connections, Namespace: s.Namespace, Image: "cairn:test", Events: book}
	asked := s.cluster()
	edit(asked)
	writes := len(s.Writes())
	foreseen, err := r.Foresee(s.t.Context(), asked)
	require.NoError(s.t, err)
	require.Nil(s.t, foreseen.Blocker)
	require.Len(s.t, s.Writes(), writes, "asking writes nothing")
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
	require.ElementsMatch(s.t, want, slices.DeleteFunc(book.steps, noStep))
}

// noStep are the lines on what is waited for, and the steps that say who may be evicted
// and what was seen: those follow the state of the daemons, and nobody is told of them before.
func noStep(line string) bool {
	return strings.HasPrefix(line, "'") || strings.Contains(line, "(PodDisruptionBudget ") || strings.HasPrefix(line, "note what was seen of mon ")
}

func isWait(step v1alpha1.PlanStep) bool { return len(step.What) > 5 && step.What[:5] == "wait " }
