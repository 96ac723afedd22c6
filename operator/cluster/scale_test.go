package cluster

import (
	"encoding/json"
	"fmt"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

const disksOfANode = 10

// fleet is a converged cluster on many nodes with ten disks each.
func fleet(t *testing.T, nodes int) *scene {
	s := empty(t)
	s.Nodes, s.Cluster.Spec.Storage.Nodes = nil, nil
	for n := range nodes {
		name := fmt.Sprintf("n%d", n)
		s.Nodes = append(s.Nodes, corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: fmt.Sprint(n % 3)}},
			Status: corev1.NodeStatus{Conditions: []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}}})
		seen, node := &v1alpha1.NodeStorage{}, v1alpha1.StorageNode{Name: name}
		for i := range disksOfANode {
			id := fmt.Sprintf("disk%d", i)
			seen.Status.Devices = append(seen.Status.Devices, v1alpha1.Device{Name: id, ID: id, Usable: true, Size: resource.MustParse("10Gi")})
			node.Devices = append(node.Devices, v1alpha1.StorageDevice{Name: id})
		}
		s.Inventory[name] = seen
		s.Cluster.Spec.Storage.Nodes = append(s.Cluster.Spec.Storage.Nodes, node)
	}
	s.found()
	s.Cluster.Status.FSID = s.Keys.FSID
	s.Ceph, s.CephError = &CephState{Status: &ceph.Status{FSID: s.Keys.FSID, Health: "HEALTH_OK", Mons: []string{"a", "b", "c"},
		Quorum: []string{"a", "b", "c"}, ActiveMgr: "a", StandbyMgrs: 1, PGs: map[string]int{"active+clean": 32}}}, nil
	for _, target := range desired(s.Observed, helper).Targets {
		s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: len(s.Ceph.OSDs), UUID: target.UUID, Up: true, In: true, Weight: 1, Host: target.Node})
		s.OSDKeys[target.UUID] = "key"
	}
	s.settle()
	for _, deployment := range s.Deployments {
		deployment.UID, deployment.ResourceVersion = types.UID(deployment.Name), fmt.Sprintf("%p", s)
	}
	for _, secret := range s.Secrets {
		secret.UID, secret.ResourceVersion = types.UID(secret.Name), fmt.Sprintf("%p", s)
	}
	return s
}

// look is all of a look that is not reading or writing.
func (s *scene) look() []Step {
	d := desired(s.Observed, helper)
	steps, err := Plan(s.Observed, d)
	require.NoError(s.t, err)
	status(s.Observed, d, steps)
	return steps
}

// What a look allocates tells without a clock how its work grows.
func TestALookAtTenTimesTheOSDsIsTenTimesTheWork(t *testing.T) {
	for name, change := range map[string]func(*scene){
		"converged":                   func(*scene) {},
		"every daemon is to restart":  func(s *scene) { s.Cluster.Spec.Ceph.Image = "ceph:next" },
		"no OSD is there yet":         func(s *scene) { s.Ceph.OSDs = nil },
		"every other node's OSDs go":  func(s *scene) { s.Cluster.Spec.Storage.Nodes = s.Cluster.Spec.Storage.Nodes[:len(s.Nodes)/2] },
		"every pod is being replaced": rollAll,
	} {
		t.Run(name, func(t *testing.T) {
			work := func(nodes int) float64 {
				s := fleet(t, nodes)
				change(s)
				return testing.AllocsPerRun(1, func() { s.look() })
			}
			require.Less(t, work(60), 10*1.2*work(6))
		})
	}
}

func rollAll(s *scene) {
	for _, deployment := range s.Deployments {
		deployment.Status = appsv1.DeploymentStatus{}
	}
	s.Cluster.Spec.Ceph.Image = "ceph:next"
}

func TestTheStatusOfAGreatPlanIsSmall(t *testing.T) {
	s := fleet(t, 100)
	s.Cluster.Spec.Ceph.Image = "ceph:next"
	got := s.status()
	require.Len(t, got.Plan, maxPlan)
	require.Equal(t, "and 987 more steps", got.Plan[maxPlan-1].What)
	text, err := json.Marshal(got)
	require.NoError(t, err)
	require.Less(t, len(text), 16<<10)
}

func BenchmarkLook(b *testing.B) {
	for _, nodes := range []int{10, 100} {
		for _, image := range []string{"", "ceph:next"} {
			b.Run(fmt.Sprintf("%d OSDs %s", nodes*disksOfANode, image), func(b *testing.B) {
				s := fleet(&testing.T{}, nodes)
				if image != "" {
					s.Cluster.Spec.Ceph.Image = image
				}
				for b.Loop() {
					s.look()
				}
			})
		}
	}
}
