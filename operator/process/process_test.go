package process

import (
	"context"
	"net/http"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

// transport is a way to the API server.
type transport func(*http.Request) (*http.Response, error)

func (t transport) RoundTrip(request *http.Request) (*http.Response, error) { return t(request) }

func TestAClusterThatHangsHoldsUpNoOther(t *testing.T) {
	config, c := controlplane.Start(t)
	const namespace = "independence"
	require.NoError(t, c.Create(t.Context(), &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: namespace}}))
	hangs := make(chan struct{})
	first := sync.OnceFunc(func() { close(hangs) })
	config.Wrap(func(next http.RoundTripper) http.RoundTripper {
		return transport(func(request *http.Request) (*http.Response, error) {
			if !strings.HasSuffix(request.URL.Path, "/storageclusters/hangs/status") {
				return next.RoundTrip(request)
			}
			first()
			<-request.Context().Done()
			return nil, request.Context().Err()
		})
	})
	ctx, cancel := context.WithCancel(t.Context())
	ended := make(chan error, 1)
	go func() { ended <- Run(ctx, config, Options{Metrics: "0", Health: "0", Namespace: namespace}, nil) }()
	t.Cleanup(func() {
		cancel()
		require.NoError(t, <-ended)
	})

	cluster := func(name string) *v1alpha1.StorageCluster {
		return &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Namespace: namespace, Name: name},
			Spec: v1alpha1.StorageClusterSpec{Storage: v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{{Name: "n1", Devices: []v1alpha1.StorageDevice{{Name: "disk1"}}}}}}}
	}
	require.NoError(t, c.Create(ctx, cluster("hangs")))
	select {
	case <-hangs:
	case <-time.After(time.Minute):
		require.Fail(t, "the first cluster is not looked at")
	}
	require.NoError(t, c.Create(ctx, cluster("other")))
	require.Eventually(t, func() bool {
		other := cluster("other")
		return c.Get(ctx, client.ObjectKeyFromObject(other), other) == nil && len(other.Status.Conditions) > 0
	}, time.Minute, 100*time.Millisecond)
}
