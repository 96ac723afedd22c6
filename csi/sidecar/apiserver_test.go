package sidecar

import (
	"context"
	"os"
	"strings"
	"testing"

	groupv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumegroupsnapshot/v1"
	snapshotv1 "github.com/kubernetes-csi/external-snapshotter/client/v8/apis/volumesnapshot/v1"
	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/apis/meta/v1/unstructured"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/yaml"

	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

// install makes all objects of a manifest that are not there yet.
func install(t *testing.T, admin client.Client, manifest string) {
	raw, err := os.ReadFile(controlplane.Path(manifest))
	require.NoError(t, err)
	for _, part := range strings.Split(string(raw), "\n---\n") {
		object := &unstructured.Unstructured{}
		require.NoError(t, yaml.Unmarshal([]byte(part), &object.Object))
		if len(object.Object) == 0 {
			continue
		}
		if err := admin.Create(t.Context(), object); !apierrors.IsAlreadyExists(err) {
			require.NoError(t, err, object.GetName())
		}
	}
}

// as are the clients of an account, with no more than its rights.
func as(t *testing.T, config *rest.Config, account string) (kubernetes.Interface, snapshots.Interface) {
	config = rest.CopyConfig(config)
	config.Impersonate = rest.ImpersonationConfig{UserName: "system:serviceaccount:cairn-system:" + account, Groups: []string{"system:serviceaccounts", "system:authenticated"}}
	core, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	ofSnapshots, err := snapshots.NewForConfig(config)
	require.NoError(t, err)
	return core, ofSnapshots
}

// bind does what Kubernetes' own controller would.
func (p *process) bind(admin kubernetes.Interface, name string) (pv *corev1.PersistentVolume) {
	claims := admin.CoreV1().PersistentVolumeClaims("db")
	claim, err := claims.Get(p.Context(), name, metav1.GetOptions{})
	require.NoError(p, err)
	p.eventually(func() bool {
		pv, err = admin.CoreV1().PersistentVolumes().Get(p.Context(), "pvc-"+string(claim.UID), metav1.GetOptions{})
		return err == nil
	})
	claim.Spec.VolumeName = pv.Name
	claim, err = claims.Update(p.Context(), claim, metav1.UpdateOptions{})
	require.NoError(p, err)
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: pv.Spec.Capacity, AccessModes: pv.Spec.AccessModes}
	_, err = claims.UpdateStatus(p.Context(), claim, metav1.UpdateOptions{})
	require.NoError(p, err)
	pv.Status.Phase = corev1.VolumeBound
	_, err = admin.CoreV1().PersistentVolumes().UpdateStatus(p.Context(), pv, metav1.UpdateOptions{})
	require.NoError(p, err)
	return pv
}

// On a real API server, with the accounts, roles and CRDs that Cairn installs and
// no other rights: claims, snapshots and their restore, groups, limits and capacity.
func TestOnARealAPIServer(t *testing.T) {
	config, admin := controlplane.Start(t)
	install(t, admin, "deploy/manifests/operator.yaml")
	install(t, admin, "deploy/manifests/csi.yaml")
	install(t, admin, "deploy/snapshots.yaml")
	require.NoError(t, admin.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "db"}}))
	root, err := kubernetes.NewForConfig(config)
	require.NoError(t, err)
	zone := identity.TopologyPrefix + "zone"
	node := csiNode(identity.DriverName, "a")
	node.Spec.Drivers[0].TopologyKeys = []string{zone}
	late := fastClass()
	late.Name, late.VolumeBindingMode = "late", ptr.To(storagev1.VolumeBindingWaitForFirstConsumer)
	classes := &snapshotv1.VolumeSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Driver: identity.DriverName,
		DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete, Parameters: map[string]string{"clusterID": fsid}}
	groups := &groupv1.VolumeGroupSnapshotClass{ObjectMeta: metav1.ObjectMeta{Name: "fast"}, Driver: identity.DriverName,
		DeletionPolicy: snapshotv1.VolumeSnapshotContentDelete, Parameters: map[string]string{"clusterID": fsid}}
	for _, object := range []client.Object{fastClass(), late, node, &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "a", Labels: map[string]string{zone: "z1"}}},
		&storagev1.VolumeAttributesClass{ObjectMeta: metav1.ObjectMeta{Name: "silver"}, DriverName: identity.DriverName, Parameters: map[string]string{"iops": "2k"}}} {
		require.NoError(t, admin.Create(t.Context(), object))
	}

	core, ofSnapshots := as(t, config, "cairn-snapshot-controller")
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() {
		ended <- SnapshotController{Client: core, Snapshots: ofSnapshots, Namespace: "cairn-system", Identity: "one", Workers: 2}.Run(ctx)
	}()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})
	driver, driverSnapshots := as(t, config, "cairn-csi-controller")
	p := run(t, driver, driverSnapshots)
	all, err := snapshots.NewForConfig(config)
	require.NoError(t, err)
	p.eventually(func() bool {
		_, err := all.SnapshotV1().VolumeSnapshotClasses().Create(t.Context(), classes, metav1.CreateOptions{})
		return err == nil
	})
	p.eventually(func() bool {
		_, err := all.GroupsnapshotV1().VolumeGroupSnapshotClasses().Create(t.Context(), groups, metav1.CreateOptions{})
		return err == nil
	})

	labelled := func(name string) *corev1.PersistentVolumeClaim {
		c := claim()
		c.Name, c.UID, c.Labels, c.Status = name, "", map[string]string{"app": "db"}, corev1.PersistentVolumeClaimStatus{}
		return c
	}
	require.NoError(t, admin.Create(t.Context(), labelled("data")))
	pv := p.bind(root, "data")
	image := ceph.ImageRef{PoolID: 1, Name: pv.Name}

	// A snapshot, and a claim of it.
	nightly := &snapshotv1.VolumeSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "nightly"}, Spec: snapshotv1.VolumeSnapshotSpec{
		VolumeSnapshotClassName: ptr.To("fast"), Source: snapshotv1.VolumeSnapshotSource{PersistentVolumeClaimName: ptr.To("data")}}}
	_, err = all.SnapshotV1().VolumeSnapshots("db").Create(t.Context(), nightly, metav1.CreateOptions{})
	require.NoError(t, err)
	p.eventually(func() bool {
		got, err := all.SnapshotV1().VolumeSnapshots("db").Get(t.Context(), "nightly", metav1.GetOptions{})
		return err == nil && got.Status != nil && ptr.Deref(got.Status.ReadyToUse, false)
	})
	restored := labelled("restored")
	restored.Spec.DataSource = &corev1.TypedLocalObjectReference{APIGroup: ptr.To("snapshot.storage.k8s.io"), Kind: "VolumeSnapshot", Name: "nightly"}
	require.NoError(t, admin.Create(t.Context(), restored))
	info, err := p.conn.ImageInfo(t.Context(), ceph.ImageRef{PoolID: 1, Name: p.bind(root, "restored").Name})
	require.NoError(t, err)
	require.NotNil(t, info.Parent)

	// A group of both.
	_, err = all.GroupsnapshotV1().VolumeGroupSnapshots("db").Create(t.Context(), &groupv1.VolumeGroupSnapshot{ObjectMeta: metav1.ObjectMeta{Namespace: "db", Name: "both"},
		Spec: groupv1.VolumeGroupSnapshotSpec{VolumeGroupSnapshotClassName: ptr.To("fast"),
			Source: groupv1.VolumeGroupSnapshotSource{Selector: &metav1.LabelSelector{MatchLabels: map[string]string{"app": "db"}}}}}, metav1.CreateOptions{})
	require.NoError(t, err)
	p.eventually(func() bool {
		got, err := all.GroupsnapshotV1().VolumeGroupSnapshots("db").Get(t.Context(), "both", metav1.GetOptions{})
		return err == nil && got.Status != nil && ptr.Deref(got.Status.ReadyToUse, false)
	})

	// Limits of a claim that is there.
	bound, err := root.CoreV1().PersistentVolumeClaims("db").Get(t.Context(), "data", metav1.GetOptions{})
	require.NoError(t, err)
	bound.Spec.VolumeAttributesClassName = ptr.To("silver")
	_, err = root.CoreV1().PersistentVolumeClaims("db").Update(t.Context(), bound, metav1.UpdateOptions{})
	require.NoError(t, err)
	p.eventually(func() bool {
		info, err := p.conn.ImageInfo(t.Context(), image)
		return err == nil && info.Limits == ceph.Limits{IOPS: 2000}
	})

	// Room.
	p.eventually(func() bool {
		list, err := root.StorageV1().CSIStorageCapacities("cairn-system").List(t.Context(), metav1.ListOptions{})
		return err == nil && len(list.Items) == 1 && list.Items[0].StorageClassName == "late" && list.Items[0].NodeTopology.MatchLabels[zone] == "z1"
	})

	// A snapshot goes with its object.
	require.NoError(t, all.SnapshotV1().VolumeSnapshots("db").Delete(t.Context(), "nightly", metav1.DeleteOptions{}))
	p.eventually(func() bool {
		list, err := p.conn.ListSnapshots(t.Context(), image)
		return err == nil && len(list) == 1 && list[0].Group != nil
	})
}
