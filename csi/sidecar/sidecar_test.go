package sidecar

import (
	"context"
	"path/filepath"
	"testing"
	"time"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/kubernetes-csi/csi-lib-utils/metrics"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/controller"
	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/server"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

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

// A claim becomes a volume through the embedded provisioner, the driver's real
// socket and a modelled cluster; deleting it deletes the image.
func TestClaimBecomesAVolume(t *testing.T) {
	ctx, cancel := context.WithCancel(t.Context())
	defer cancel()
	cluster := model.New(fsid)
	conn, err := cluster.Connect(ctx, ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(ctx, ceph.PoolSpec{Name: "fast", Size: 1, Application: "rbd"}))
	client := fake.NewClientset(
		&storagev1.StorageClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Provisioner: identity.DriverName,
			Parameters: map[string]string{"clusterID": fsid, "pool": "fast"}, ReclaimPolicy: ptr.To(corev1.PersistentVolumeReclaimDelete)},
		&corev1.PersistentVolumeClaim{
			ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "data", UID: "0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d",
				Annotations: map[string]string{"volume.kubernetes.io/storage-provisioner": identity.DriverName}},
			Spec: corev1.PersistentVolumeClaimSpec{
				StorageClassName: ptr.To("fast"), AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
				Resources: corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}}},
			Status: corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimPending},
		})

	socket := filepath.Join(t.TempDir(), "csi.sock")
	grpc := server.New(server.Options{})
	csi.RegisterIdentityServer(grpc, &identity.Server{Controller: true})
	informers := Informers(client)
	driver := &controller.Server{Nodes: NewNodes(client, informers), Clusters: connections.New(connections.Static{fsid: {FSID: fsid}}, cluster, connections.Timeouts)}
	csi.RegisterControllerServer(grpc, driver)
	served, ran := make(chan error, 1), make(chan error, 1)
	listener, err := server.Listen(ctx, socket)
	require.NoError(t, err)
	go func() { served <- server.ServeOn(ctx, grpc, listener) }()
	c, err := New(ctx, Options{Client: client, Socket: socket, Namespace: "cairn-system", Identity: "one", Workers: 2, Informers: informers, Metrics: metrics.NewCSIMetricsManager("")})
	require.NoError(t, err)
	go func() { ran <- c.Run(ctx) }()

	name := "pvc-0b5f2a8e-7c41-4c55-9d3e-0d8f3c1a2b4d"
	var pv *corev1.PersistentVolume
	require.Eventually(t, func() bool {
		pv, err = client.CoreV1().PersistentVolumes().Get(ctx, name, metav1.GetOptions{})
		return err == nil
	}, 20*time.Second, 10*time.Millisecond)
	require.Equal(t, "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.1.."+name, pv.Spec.CSI.VolumeHandle)
	require.Equal(t, "fast", pv.Spec.CSI.VolumeAttributes["pool"])
	images, err := conn.CountImages(ctx, "fast")
	require.NoError(t, err)
	require.Equal(t, 1, images)
	cancel()
	require.NoError(t, <-ran)
	require.NoError(t, <-served)
}
