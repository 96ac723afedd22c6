package node

import (
	"context"
	"errors"
	"fmt"
	"testing"

	"github.com/container-storage-interface/spec/lib/go/csi"
	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/codes"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes/fake"

	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/csi/server"
)

func (b *bench) health() []*csi.VolumeHealth_VolumeHealthEntry {
	resp, err := b.NodeGetVolumeHealth(b.t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: b.code, StagingTargetPath: b.path("staging")})
	require.NoError(b.t, err)
	require.Equal(b.t, b.code, resp.GetVolumeHealth().GetVolumeId())
	return resp.GetVolumeHealth().GetHealthStatuses()
}

// What is wrong with a staged volume is found, has a reason, and ends with it.
func TestHealth(t *testing.T) {
	for name, c := range map[string]struct {
		spoil  func(*bench)
		reason string
	}{
		"read-only": {func(b *bench) { b.host.Broken = map[string]bool{b.path("staging"): true} }, ReadOnlyFilesystem},
		"shut down": {func(b *bench) { b.host.Dead = map[string]bool{b.path("staging"): true} }, FilesystemDown},
		"crashed":   {func(b *bench) { b.attacher.Crash() }, Lost},
		"unmounted": {func(b *bench) { require.NoError(t, b.host.Unmount(t.Context(), b.path("staging"))) }, Lost},
		"overlaid": {func(b *bench) {
			require.NoError(t, b.host.Mount(t.Context(), "/dev/fake9", b.path("staging"), "xfs", nil))
		}, Lost},
		"other boot": {func(b *bench) {
			r, _ := b.Journal.Read(b.code)
			r.BootID = "x"
			require.NoError(t, b.Journal.Write(*r))
		}, Lost},
		"noted": {func(b *bench) {
			r, _ := b.Journal.Read(b.code)
			r.Unhealthy = "x"
			require.NoError(t, b.Journal.Write(*r))
		}, Lost},
	} {
		t.Run(name, func(t *testing.T) {
			b := newBench(t)
			require.NoError(t, b.stage(mountCapability(writer)))
			require.Empty(t, b.health())
			c.spoil(b)
			found := b.health()
			require.Len(t, found, 1)
			require.Equal(t, c.reason, found[0].GetReason())
			require.NotEmpty(t, found[0].GetMessage())
			require.Equal(t, csi.VolumeHealthErrorType_INACCESSIBLE, found[0].GetStatus())
		})
	}
}

func TestHealthyKinds(t *testing.T) {
	for _, c := range []*csi.VolumeCapability{blockCapability(writer), mountCapability(csi.VolumeCapability_AccessMode_MULTI_NODE_READER_ONLY)} {
		b := newBench(t)
		require.NoError(t, b.stage(c))
		require.Empty(t, b.health())
	}
}

func TestHealthRefuses(t *testing.T) {
	b := newBench(t)
	ask := func(volume, staging string) codes.Code {
		_, err := b.NodeGetVolumeHealth(t.Context(), &csi.NodeGetVolumeHealthRequest{VolumeId: volume, StagingTargetPath: staging})
		return server.Code(err)
	}
	require.Equal(t, codes.InvalidArgument, ask("", ""))
	require.Equal(t, codes.NotFound, ask("x", ""))
	require.Equal(t, codes.NotFound, ask(b.code, ""))
	require.NoError(t, b.stage(mountCapability(writer)))
	require.Equal(t, codes.OK, ask(b.code, ""))
	require.Equal(t, codes.NotFound, ask(b.code, b.path("elsewhere")))
}

func TestStorageHealth(t *testing.T) {
	b := newBench(t)
	resp, err := b.NodeGetStorageHealth(t.Context(), &csi.NodeGetStorageHealthRequest{})
	require.NoError(t, err)
	require.Empty(t, resp.GetBackendHealth())
	b.attacher.FailWith(errors.New("refused"))
	resp, err = b.NodeGetStorageHealth(t.Context(), &csi.NodeGetStorageHealthRequest{})
	require.NoError(t, err)
	require.Equal(t, csi.StorageHealthErrorType_STORAGE_UNREACHABLE, resp.GetBackendHealth()[0].GetStatus())
}

// gather returns a collector's metrics with their labels and values.
func gather(t *testing.T, c prometheus.Collector) (lines []string) {
	registry := prometheus.NewRegistry()
	registry.MustRegister(c)
	families, err := registry.Gather()
	require.NoError(t, err)
	for _, f := range families {
		for _, m := range f.GetMetric() {
			line := f.GetName()
			for _, l := range m.GetLabel() {
				line += " " + l.GetValue()
			}
			lines = append(lines, fmt.Sprint(line, " ", m.GetGauge().GetValue()))
		}
	}
	return lines
}

// A trouble is told once, again when it comes back, and again when it could not be told.
func TestWatcher(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.stage(mountCapability(writer)))
	require.NoError(t, b.publish("pods/u/volumes/kubernetes.io~csi/pvc-1/mount", mountCapability(writer)))
	var told []string
	var fail error
	w := &Watcher{Server: b.Server, Tell: func(_ context.Context, volume string, t Trouble) error {
		told = append(told, volume+" "+t.Reason)
		return fail
	}}
	look := func(broken bool, want int) {
		t.Helper()
		b.host.Broken = map[string]bool{b.path("staging"): broken}
		require.ErrorIs(t, w.Look(t.Context()), fail)
		require.Len(t, told, want)
	}
	look(false, 0)
	look(true, 1)
	look(true, 1)
	require.Equal(t, "pvc-1 ReadOnlyFilesystem", told[0])
	require.Equal(t, []string{"cairn_csi_staged_volumes 1", "cairn_csi_volume_unhealthy ReadOnlyFilesystem " + b.code + " 1"}, gather(t, w))
	look(false, 1)
	require.Equal(t, []string{"cairn_csi_staged_volumes 1"}, gather(t, w))
	fail = errors.New("no API server")
	look(true, 2)
	look(true, 3)
	fail = nil
	look(true, 4)
	look(true, 4)
}

func TestPersistentVolume(t *testing.T) {
	for target, want := range map[string]string{
		"/var/lib/kubelet/pods/u/volumes/kubernetes.io~csi/pvc-1/mount":                  "pvc-1",
		"/var/lib/kubelet/plugins/kubernetes.io/csi/volumeDevices/publish/pvc-2/pod-uid": "pvc-2",
		"/elsewhere": "", "/a/kubernetes.io~csi": "",
	} {
		require.Equal(t, want, persistentVolume([]string{"/x", target}), target)
	}
}

func TestEvents(t *testing.T) {
	b := newBench(t)
	require.NoError(t, b.stage(mountCapability(writer)))
	b.attacher.Crash()
	_, troubles, err := b.Troubles(t.Context())
	require.NoError(t, err)
	require.Len(t, troubles, 1)
	pv := func(name, driver string, claim *corev1.ObjectReference) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: name}, Spec: corev1.PersistentVolumeSpec{
			ClaimRef:               claim,
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: driver, VolumeHandle: b.code}}}}
	}
	claim := &corev1.ObjectReference{Namespace: "db", Name: "data", UID: "u"}
	client := fake.NewClientset(pv("pvc-1", identity.DriverName, claim), pv("foreign", "other.driver", claim), pv("free", identity.DriverName, nil))
	events := Events{Client: client, Node: "node-1"}
	for _, name := range []string{"pvc-1", "pvc-1", "foreign", "free", "gone"} {
		require.NoError(t, events.Tell(t.Context(), name, troubles[0]))
	}
	all, err := client.CoreV1().Events("").List(t.Context(), metav1.ListOptions{})
	require.NoError(t, err)
	require.Len(t, all.Items, 1)
	require.Equal(t, "VolumeLost", all.Items[0].Reason)
	require.Equal(t, "db", all.Items[0].Namespace)
	require.Equal(t, "data", all.Items[0].InvolvedObject.Name)
	require.Contains(t, all.Items[0].Message, "node-1")
}
