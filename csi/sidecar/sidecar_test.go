package sidecar

import (
	"context"
	"fmt"
	"os"
	"path/filepath"
	"sync"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	fakesnapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned/fake"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/runtime/schema"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/csi/upkeep"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

// The fake client of snapshots knows nothing of lists that are watched.
func TestMain(m *testing.M) {
	_ = os.Setenv("KUBE_FEATURE_WatchListClient", "false")
	controlplane.Main(m)
}

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

func csiNode(driver, id string) *storagev1.CSINode {
	return &storagev1.CSINode{ObjectMeta: metav1.ObjectMeta{Name: id},
		Spec: storagev1.CSINodeSpec{Drivers: []storagev1.CSINodeDriver{{Name: driver, NodeID: id}}}}
}

func TestNodes(t *testing.T) {
	client := fake.NewClientset(csiNode(identity.DriverName, "a"), csiNode("other", "b"))
	n := NewNodes(client, Informers(client))
	for node, want := range map[string]bool{"a": true, "b": false, "c": false} {
		known, err := n.Known(t.Context(), node)
		require.NoError(t, err)
		require.Equal(t, want, known, node)
	}
}

// process is the driver's controller process, on a modelled cluster.
type process struct {
	*testing.T
	client    kubernetes.Interface
	snapshots snapshots.Interface
	conn      ceph.Conn
}

func startProcess(t *testing.T, objects ...runtime.Object) *process {
	client := fake.NewClientset(append(objects, fastClass())...)
	client.Resources = []*metav1.APIResourceList{snapshotResources, groupResources}
	return run(t, client, fakesnapshots.NewSimpleClientset(&snapshotv1.VolumeSnapshotClass{ //nolint:staticcheck // what is to replace it is not there yet
		ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Driver: identity.DriverName, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete, Parameters: map[string]string{"clusterID": fsid}}))
}

func fastClass() *storagev1.StorageClass {
	return &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: identity.DriverName,
		Parameters: map[string]string{"clusterID": fsid, "pool": "fast"}, ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete),
		VolumeBindingMode: ptr.To(storagev1.VolumeBindingImmediate)}
}

// run runs the process until the test ends.
func run(t *testing.T, client kubernetes.Interface, ofSnapshots snapshots.Interface) *process {
	ctx, cancel := context.WithCancel(t.Context())
	cluster := model.New(fsid)
	conn, err := cluster.Connect(ctx, ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(ctx, ceph.PoolSpec{Name: "fast", Size: 1, Application: "rbd"}))
	p := &process{T: t, conn: conn, snapshots: ofSnapshots, client: client}

	socket := filepath.Join(t.TempDir(), "csi.sock")
	informers := Informers(p.client)
	volumes := NewVolumes(informers)
	clusters := connections.New(connections.Static{fsid: {FSID: fsid}}, cluster, connections.Timeouts)
	work := upkeep.New(clusters, volumes, upkeep.Defaults, nil)
	driver := &controller.Server{Nodes: NewNodes(p.client, informers), Clusters: clusters, Places: volumes, Volumes: volumes, Upkeep: work}
	grpc := server.New(server.Options{})
	csi.RegisterIdentityServer(grpc, &identity.Server{Controller: true})
	csi.RegisterControllerServer(grpc, driver)
	csi.RegisterGroupControllerServer(grpc, driver)
	served, ran := make(chan error, 1), make(chan error, 1)
	listener, err := server.Listen(ctx, socket)
	require.NoError(t, err)
	go func() { served <- server.ServeOn(ctx, grpc, listener) }()
	c, err := New(ctx, Options{Client: p.client, Snapshots: p.snapshots, Socket: socket, Namespace: "cairn-system", Identity: "one", Workers: 2,
		Informers: informers, Metrics: metrics.NewCSIMetricsManager(""), Leading: work.Run})
	require.NoError(t, err)
	go func() { ran <- c.Run(ctx) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ran)
		require.NoError(t, <-served)
	})
	return p
}

func (p *process) eventually(f func() bool) {
	p.Helper()
	require.Eventually(p, f, 20*time.Second, 10*time.Millisecond)
}

func claim() *corev1.PersistentVolumeClaim {
	return &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "data", UID: "0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d",
			Annotations: map[string]string{"volume.kubernetes.io/storage-provisioner": identity.DriverName}},
		Spec: corev1.PersistentVolumeClaimSpec{
			StorageClassName: ptr.To("fast"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
		Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
	}
}

const volumeName = "pvc-0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d"

// provisioned waits for the volume of the claim.
func (p *process) provisioned() (pv *corev1.PersistentVolume) {
	p.eventually(func() bool {
		var err error
		pv, err = p.client.CoreV1().PersistentVolumes().Get(p.Context(), volumeName, metav1.GetOptions{})
		return err == nil
	})
	return pv
}

// A claim becomes a volume through the embedded provisioner, the driver's real
// socket and a modelled cluster.
func TestClaimBecomesAVolume(t *testing.T) {
	p := startProcess(t, claim())
	pv := p.provisioned()
	require.Equal(t, "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.1.."+volumeName, pv.Spec.CSI.VolumeHandle)
	require.Equal(t, "fast", pv.Spec.CSI.VolumeAttributes["pool"])
	images, err := p.conn.PoolImages(t.Context(), "fast")
	require.NoError(t, err)
	require.Len(t, images, 1)
}

// A snapshot's content becomes a snapshot, and goes with it.
func TestContentBecomesASnapshot(t *testing.T) {
	p := startProcess(t, claim())
	handle := p.provisioned().Spec.CSI.VolumeHandle
	contents := p.snapshots.SnapshotV1().VolumeSnapshotContents()
	_, err := contents.Create(t.Context(), &snapshotv1.VolumeSnapshotContent{
		ObjectMeta: metav1.ObjectMeta{Name: "content", ResourceVersion: "1"},
		Spec: snapshotv1.VolumeSnapshotContentSpec{Driver: identity.DriverName, DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete,
			VolumeSnapshotClassName: ptr.To("fast"),
			Source:                  snapshotv1.VolumeSnapshotContentSource{VolumeHandle: &handle},
			VolumeSnapshotRef:       corev1.ObjectReference{Namespace: "db", Name: "nightly", UID: "1b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d"}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	p.eventually(func() bool {
		content, err := contents.Get(t.Context(), "content", metav1.GetOptions{})
		return err == nil && content.Status != nil && content.Status.SnapshotHandle != nil && ptr.Deref(content.Status.ReadyToUse, false)
	})
	list, err := p.conn.ListSnapshots(t.Context(), ceph.ImageRef{PoolID: 1, Name: volumeName})
	require.NoError(t, err)
	require.Equal(t, "snapshot-1b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d", list[0].Name)
}

// How much room there is for a class in a place is published.
func TestCapacityIsPublished(t *testing.T) {
	zone := identity.TopologyPrefix + "zone"
	node := csiNode(identity.DriverName, "a")
	node.Spec.Drivers[0].TopologyKeys = []string{zone}
	late := &storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "late"}, Provisioner: identity.DriverName,
		Parameters: map[string]string{"clusterID": fsid, "pool": "fast"}, VolumeBindingMode: ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)}
	p := startProcess(t, late, node, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{zone: "z1"}}})
	p.eventually(func() bool {
		list, err := p.client.StorageV1().CSIStorageCapacities("cairn-system").List(t.Context(), metav1.ListOptions{})
		require.NoError(t, err)
		return len(list.Items) == 1 && list.Items[0].StorageClassName == "late" && list.Items[0].NodeTopology.MatchLabels[zone] == "z1" &&
			list.Items[0].Capacity.Value() == 1<<40
	})
}

func TestVolumes(t *testing.T) {
	pv := func(name, driver, handle string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{PersistentVolumeSource: corev1.PersistentVolumeSource{
			CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: handle}}}}
	}
	attachment := func(name, driver, volume string, attached bool) *storagev1.VolumeAttachment {
		return &storagev1.VolumeAttachment{ObjectMeta: metav1.ObjectMeta{Name: name}, Status: storagev1.VolumeAttachmentStatus{Attached: attached},
			Spec: storagev1.VolumeAttachmentSpec{Attacher: driver, NodeName: "node-" + name, Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &volume}}}
	}
	id := "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.1.tenant.pvc-1"
	client := fake.NewClientset(pv("a", identity.DriverName, id), pv("b", "other", "x"), pv("c", identity.DriverName, "no ID"),
		&corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "d"}},
		attachment("1", identity.DriverName, "a", true), attachment("2", identity.DriverName, "a", false), attachment("3", "other", "a", true), attachment("4", identity.DriverName, "gone", true),
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "a"}, Provisioner: identity.DriverName, Parameters: map[string]string{"clusterID": fsid}},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "b"}, Provisioner: identity.DriverName, Parameters: map[string]string{"clusterID": "../x"}},
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "c"}, Provisioner: "other", Parameters: map[string]string{"clusterID": fsid, "radosNamespace": "other"}})
	informers := Informers(client)
	v := NewVolumes(informers)
	informers.Start(t.Context().Done())
	informers.WaitForCacheSync(t.Context().Done())
	ids, err := v.IDs(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []string{id, "no ID"}, ids)
	published, err := v.Published(t.Context())
	require.NoError(t, err)
	require.Equal(t, map[string][]string{id: {"node-1"}}, published)
	where, err := v.Places(t.Context())
	require.NoError(t, err)
	require.ElementsMatch(t, []places.Place{{FSID: fsid}, {FSID: fsid, Namespace: "tenant"}}, where)
}

var (
	snapshotResources = &metav1.APIResourceList{GroupVersion: "snapshot.storage.k8s.io/v1",
		APIResources: []metav1.APIResource{{Name: "volumesnapshots"}, {Name: "volumesnapshotcontents"}, {Name: "volumesnapshotclasses"}}}
	groupResources = &metav1.APIResourceList{GroupVersion: "groupsnapshot.storage.k8s.io/v1",
		APIResources: []metav1.APIResource{{Name: "volumegroupsnapshots"}, {Name: "volumegroupsnapshotcontents"}, {Name: "volumegroupsnapshotclasses"}}}
)

// known is what a cluster serves.
type known struct {
	discovery.DiscoveryInterface
	mu    sync.Mutex
	lists []*metav1.APIResourceList
}

func (k *known) ServerResourcesForGroupVersion(version string) (*metav1.APIResourceList, error) {
	k.mu.Lock()
	defer k.mu.Unlock()
	for _, list := range k.lists {
		if list.GroupVersion == version {
			return list, nil
		}
	}
	return nil, apierrors.NewNotFound(schema.GroupResource{}, version)
}

// Snapshot objects may come later, in part, and go.
func TestSnapshotObjectsAreFollowed(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	k, look, events, done := &known{}, make(chan time.Time), make(chan string, 100), make(chan struct{})
	go func() {
		defer close(done)
		follow(ctx, k, look, func(ctx context.Context, groups bool) {
			events <- fmt.Sprintf("begin, groups %t", groups)
			<-ctx.Done()
			events <- fmt.Sprintf("end, groups %t", groups)
		})
	}()
	for _, lists := range [][]*metav1.APIResourceList{
		{}, {snapshotResources}, {snapshotResources}, {snapshotResources, groupResources}, {}, {groupResources}, {snapshotResources},
	} {
		k.mu.Lock()
		k.lists = lists
		k.mu.Unlock()
		look <- time.Time{}
		look <- time.Time{} // it has looked when it waits for this
	}
	require.Equal(t, "begin, groups false", <-events)
	require.Equal(t, "end, groups false", <-events)
	require.Equal(t, "begin, groups true", <-events)
	require.Equal(t, "end, groups true", <-events)
	require.Equal(t, "begin, groups false", <-events)
	cancel()
	<-done
	require.Equal(t, "end, groups false", <-events)
	require.Empty(t, events)
}
