// Package simulation plays what an API server alone does not have: the
// Deployment controller and the kubelets that run pods, the agents that report
// devices, and the Ceph daemons in those pods, over daemon/ceph/model. It does
// so in one step, when a test says so, and fails the test when the operator
// does what a real cluster would not survive: a second fsid, a second OSD on a
// device, a disk formatted again, a key that Ceph does not know.
package simulation

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

// World is a Kubernetes of three nodes with two disks each, and the Ceph on it.
type World struct {
	t testing.TB
	// Client is a person's: what it writes is not counted.
	Client    client.WithWatch
	server    client.Client // the API server itself, where Client knows the answer
	Namespace string
	// Ceph is nil until a majority of the first mons run.
	Ceph *model.Cluster
	// Connections of the operator.
	Connections *connection.Manager

	// Violations are what no real cluster would survive, of those that a test may
	// plant a bug to see. There must be none at a test's end, unless Planted says so.
	Violations []string
	Planted    bool

	fsid     string
	monmap   []string
	quorum   []string
	quorate  bool
	returns  int // of pods
	givers   map[string]*giver
	given    map[uint64]string // client ID → mon
	maxID    uint64            // that was ever stored
	epoch    int               // of the OSD map
	removed  map[string]bool   // mons that were taken out of the monmap
	lost     map[string]bool   // nodes on which nothing runs
	entered  map[string]bool   // pods whose daemons have logged in
	disks    map[string]*disk  // node/device
	stores   map[string]*store // node/mon
	images   map[string]string // image → version of Ceph in it
	lacks    map[string]string // image → Ceph option that it does not know
	crashes  map[string]bool   // images whose daemons end at once
	runs     map[string]started
	restarts []string
	wrong    []string
	operator operator
	drains   drains
	// deletes are claims that a person deletes.
	deletes map[string]bool
}

// disk is what the label of a device says.
type disk struct {
	node, name string
	uuid, fsid string
	id         int
	failed     bool // neither shown nor readable
	exchanged  bool // put in place of another, under its name
	dbOf       string
	claim      types.UID // of the device of a claim, whose node is claimed
	grown      bool      // to the double
	key        string    // that it was encrypted with; empty for none
	epoch      int       // of the newest OSD map that its OSD has heard of
}

// Nodes of every World.
var Nodes = []string{"node1", "node2", "node3"}

// New returns a world whose disks are blank, in a namespace of its own.
func New(t testing.TB) *World {
	_, c := controlplane.Start(t)
	w := &World{t: t, Client: known.answered(c), server: c, disks: map[string]*disk{}, stores: map[string]*store{}, images: map[string]string{"cairn.storage/ceph:20.2.4": "20.2.4"}, crashes: map[string]bool{}, runs: map[string]started{}, removed: map[string]bool{}, lost: map[string]bool{}, deletes: map[string]bool{}, entered: map[string]bool{}}
	namespace := &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{GenerateName: "world-"}}
	require.NoError(t, w.Client.Create(t.Context(), namespace))
	w.Namespace = namespace.Name
	for _, node := range Nodes {
		for _, name := range []string{"disk1", "disk2"} {
			w.disks[node+"/"+name] = &disk{node: node, name: name}
		}
		w.boot(node)
	}
	w.Restart()
	t.Cleanup(func() { require.Equal(t, w.Planted, len(w.Violations) > 0, "violations: %v", w.Violations) })
	return w
}

// boot makes a node and what its agent reports.
func (w *World) boot(name string) {
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelHostname: name}}}
	require.NoError(w.t, ignoreExists(w.Client.Create(w.t.Context(), node)))
	require.NoError(w.t, w.Client.Get(w.t.Context(), client.ObjectKey{Name: name}, node))
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: corev1.ConditionTrue}}
	node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: Address(name)}}
	require.NoError(w.t, w.Client.Status().Update(w.t.Context(), node))
	node.Spec.Taints = nil // a new node is tainted until its controller has seen it
	require.NoError(w.t, w.Client.Update(w.t.Context(), node))
	require.NoError(w.t, ignoreExists(w.Client.Create(w.t.Context(), &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: name}})))
	w.report(name)
}

// Address of a node.
func Address(node string) string { return "10.9.0." + strings.TrimPrefix(node, "node") }

// Lose has nothing run on a node any more, and Kubernetes notice.
func (w *World) Lose(name string) {
	w.lost[name] = true
	w.setReady(w.context(), name, corev1.ConditionUnknown)
	// The nodes are those of all worlds.
	w.t.Cleanup(func() { w.setReady(context.WithoutCancel(w.context()), name, corev1.ConditionTrue) })
}

// Freeze has nothing run on a node any more, while Kubernetes calls it ready.
func (w *World) Freeze(name string) { w.lost[name] = true }

// Return has a node that was lost run what it ran before, in other containers.
func (w *World) Return(name string) {
	w.lost[name] = false
	var pods corev1.PodList
	require.NoError(w.t, w.Client.List(w.context(), &pods, client.InNamespace(w.Namespace)))
	for i := range pods.Items {
		if pod := &pods.Items[i]; pod.Spec.NodeName == name && pod.Status.Phase == corev1.PodRunning {
			w.returns++
			container := pod.Spec.Containers[0]
			pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container.Name, Image: container.Image, ContainerID: fmt.Sprintf("containerd://%d", w.returns)}}
			require.NoError(w.t, w.Client.Status().Update(w.context(), pod))
		}
	}
	w.setReady(w.context(), name, corev1.ConditionTrue)
}

func (w *World) setReady(ctx context.Context, name string, ready corev1.ConditionStatus) {
	var node corev1.Node
	require.NoError(w.t, w.Client.Get(ctx, client.ObjectKey{Name: name}, &node))
	node.Status.Conditions = []corev1.NodeCondition{{Type: corev1.NodeReady, Status: ready}}
	require.NoError(w.t, w.Client.Status().Update(ctx, &node))
}

// Spare adds a node without disks, for as long as this world is.
func (w *World) Spare(name string) {
	w.boot(name)
	w.t.Cleanup(func() {
		ctx := context.WithoutCancel(w.t.Context())
		require.NoError(w.t, w.Client.Delete(ctx, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name}}))
		require.NoError(w.t, w.Client.Delete(ctx, &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: name}}))
	})
}

// report is what the agent of a node does.
func (w *World) report(node string) {
	var seen v1alpha1.NodeStorage
	require.NoError(w.t, w.Client.Get(w.t.Context(), client.ObjectKey{Name: node}, &seen))
	before := seen.DeepCopy()
	seen.Status = v1alpha1.NodeStorageStatus{Encryption: &v1alpha1.NodeEncryption{Available: true}}
	for i, at := range slices.Sorted(maps.Keys(w.disks)) {
		d := w.disks[at]
		if d.node != node || d.failed {
			continue
		}
		device := v1alpha1.Device{Name: fmt.Sprintf("sd%c", 'a'+i), ID: d.name, Size: resource.MustParse("10Gi"), Usable: true}
		if d.grown {
			device.Size.Add(device.Size)
		}
		if d.uuid != "" {
			device.Usable, device.Reason = false, v1alpha1.DeviceHasOSD
			device.OSD = &v1alpha1.DeviceOSD{ID: int32(d.id), UUID: d.uuid, FSID: d.fsid, Encrypted: d.key != ""}
		}
		if d.dbOf != "" {
			device.Usable, device.Reason, device.DBOf = false, v1alpha1.DeviceHasOSD, d.dbOf
		}
		seen.Status.Devices = append(seen.Status.Devices, device)
	}
	require.NoError(w.t, w.Client.Status().Patch(w.t.Context(), &seen, client.MergeFrom(before)))
}

// Cluster makes a StorageCluster with the first disk of every node.
func (w *World) Cluster(name string, change ...func(*v1alpha1.StorageCluster)) *v1alpha1.StorageCluster {
	cluster := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Namespace: w.Namespace, Name: name}}
	for _, node := range Nodes {
		cluster.Spec.Storage.Nodes = append(cluster.Spec.Storage.Nodes, v1alpha1.StorageNode{Name: node, Devices: []v1alpha1.StorageDevice{{Name: "disk1"}}})
	}
	for _, f := range change {
		f(cluster)
	}
	require.NoError(w.t, w.Client.Create(w.t.Context(), cluster))
	return cluster
}

// OSDs are the devices that hold one: node/device → UUID.
func (w *World) OSDs() map[string]string {
	found := map[string]string{}
	for at, d := range w.disks {
		if d.uuid != "" {
			found[at] = d.uuid
		}
	}
	return found
}

// FSID of the mons' stores; empty before the first mon has run.
func (w *World) FSID() string { return w.fsid }

func (w *World) context() context.Context { return w.t.Context() }

func ignoreExists(err error) error {
	if apierrors.IsAlreadyExists(err) {
		return nil
	}
	return err
}
