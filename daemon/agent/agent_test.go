package agent

import (
	"context"
	"errors"
	"testing"
	"testing/synctest"
	"time"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/fake"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// node is a node in a model of Kubernetes that counts requests.
type node struct {
	*Agent
	devices       []v1alpha1.Device
	err           error
	reads, writes int
}

func newNode(t *testing.T) *node {
	scheme := runtime.NewScheme()
	require.NoError(t, errors.Join(corev1.AddToScheme(scheme), v1alpha1.AddToScheme(scheme)))
	n := &node{devices: []v1alpha1.Device{device("wwn-0x1", "10Gi", true, nil)}}
	kubernetes := fake.NewClientBuilder().WithScheme(scheme).WithStatusSubresource(&v1alpha1.NodeStorage{}).
		WithObjects(&corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1", UID: "uid-1"}}).
		WithInterceptorFuncs(interceptor.Funcs{
			Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
				n.reads++
				return c.Get(ctx, key, o, opts...)
			},
			Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
				n.writes++
				return c.Create(ctx, o, opts...)
			},
			Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
				n.writes++
				return c.Update(ctx, o, opts...)
			},
			SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
				n.writes++
				return c.SubResource(sub).Update(ctx, o, opts...)
			},
		}).Build()
	n.Agent = &Agent{
		Client: kubernetes, Node: "node1", Interval: 10 * time.Second, Log: logr.Discard(),
		Devices:    func(context.Context) ([]v1alpha1.Device, error) { return n.devices, n.err },
		Encryption: func() *v1alpha1.NodeEncryption { return &v1alpha1.NodeEncryption{Message: "no dm-crypt"} },
		Probe: func() []v1alpha1.AttachMethod {
			return []v1alpha1.AttachMethod{{Name: "krbd", Message: "no module"}, {Name: "fuse", Available: true}}
		},
	}
	return n
}

func (n *node) storage(t *testing.T) *v1alpha1.NodeStorage {
	object := &v1alpha1.NodeStorage{}
	require.NoError(t, n.Client.Get(context.Background(), types.NamespacedName{Name: "node1"}, object))
	return object
}

func device(id, size string, usable bool, osd *v1alpha1.DeviceOSD) v1alpha1.Device {
	d := v1alpha1.Device{Name: "k-" + id, ID: id, Size: resource.MustParse(size), Usable: usable, OSD: osd}
	if !usable {
		d.Reason = v1alpha1.DeviceInUse
	}
	return d
}

func TestPublish(t *testing.T) {
	n := newNode(t)
	require.NoError(t, n.Publish(t.Context()))
	object := n.storage(t)
	require.Equal(t, types.UID("uid-1"), object.OwnerReferences[0].UID)
	require.Equal(t, "wwn-0x1 10Gi usable", object.Status.Summary.Devices)
	require.Equal(t, "fuse", object.Status.Summary.Attach)
	require.Len(t, object.Status.AttachMethods, 2)
	require.Equal(t, 2, n.writes)

	reads := n.reads
	require.NoError(t, n.Publish(t.Context()))
	require.Equal(t, []int{reads, 2}, []int{n.reads, n.writes}, "an idle look asks Kubernetes nothing")

	n.devices = append(n.devices, device("wwn-0x2", "4000787030016", false, nil))
	require.NoError(t, n.Publish(t.Context()))
	require.Equal(t, 3, n.writes)
	require.Equal(t, "wwn-0x1 10Gi usable; wwn-0x2 3.6Ti InUse", n.storage(t).Status.Summary.Devices)
}

func TestARestartedAgentWritesNothing(t *testing.T) {
	n := newNode(t)
	require.NoError(t, n.Publish(t.Context()))
	n.written, n.compared = v1alpha1.NodeStorageStatus{}, time.Time{}
	require.NoError(t, n.Publish(t.Context()))
	require.Equal(t, 2, n.writes)
}

func TestANodeMadeAnewOwnsItsStorage(t *testing.T) {
	n := newNode(t)
	require.NoError(t, n.Publish(t.Context()))
	node := &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1"}}
	require.NoError(t, n.Client.Delete(t.Context(), node))
	node = &corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: "node1", UID: "uid-2"}}
	require.NoError(t, n.Client.Create(t.Context(), node))
	n.compared = time.Time{}
	require.NoError(t, n.Publish(t.Context()))
	require.Equal(t, types.UID("uid-2"), n.storage(t).OwnerReferences[0].UID)
}

func TestFailuresAreToldAndWriteNothing(t *testing.T) {
	n := newNode(t)
	n.err = errors.New("no sysfs")
	require.ErrorContains(t, n.Publish(t.Context()), "take the inventory: no sysfs")
	require.Zero(t, n.writes)
}

func TestRun(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		n := newNode(t)
		events := make(chan struct{}, 1)
		n.Events = events
		ctx, cancel := context.WithCancel(t.Context())
		done := make(chan error)
		go func() { done <- n.Run(ctx) }()

		synctest.Wait()
		require.Equal(t, 2, n.writes, "published at once")

		n.devices = append(n.devices, device("wwn-0x2", "10Gi", true, nil))
		events <- struct{}{}
		time.Sleep(settle)
		synctest.Wait()
		require.Equal(t, 3, n.writes, "an event is not waited for")

		require.NoError(t, n.Client.Delete(ctx, n.storage(t)))
		time.Sleep(recheck + n.Interval)
		synctest.Wait()
		require.EqualValues(t, 2, n.storage(t).Status.Summary.Usable, "what was deleted comes back")
		require.NoError(t, n.Healthy())

		n.err = errors.New("no sysfs")
		time.Sleep(healthyFor + n.Interval)
		require.ErrorContains(t, n.Healthy(), "nothing published for 3m")
		cancel()
		require.NoError(t, <-done)
	})
}
