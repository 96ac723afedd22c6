// Package controlplane gives a package's tests a real API server: etcd and
// kube-apiserver of the lab's Kubernetes, with Cairn's CRDs and nothing else.
// No controller and no kubelet runs: what they would do, a test does.
//
// A package that uses it hands its TestMain to Main:
//
//	func TestMain(m *testing.M) { controlplane.Main(m) }
package controlplane

import (
	"context"
	"fmt"
	"os"
	"os/signal"
	"path/filepath"
	"sync"
	"syscall"
	"testing"

	"github.com/go-logr/logr"
	"github.com/stretchr/testify/require"
	kruntime "k8s.io/apimachinery/pkg/runtime"
	clientgoscheme "k8s.io/client-go/kubernetes/scheme"
	"k8s.io/client-go/rest"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/envtest"
	"sigs.k8s.io/controller-runtime/pkg/log"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/tests/lab"
)

// server is the one control plane of a test binary.
var server struct {
	sync.Mutex
	managed     bool
	environment *envtest.Environment
	config      *rest.Config
	failed      error
}

// Main runs a package's tests and then stops the control plane, if any of them
// started it.
func Main(m *testing.M) {
	log.SetLogger(logr.Discard())
	server.managed = true
	interrupted := make(chan os.Signal, 1)
	signal.Notify(interrupted, os.Interrupt, syscall.SIGTERM)
	go func() {
		<-interrupted
		_ = stop()
		os.Exit(1)
	}()
	code := m.Run()
	if err := stop(); err != nil {
		fmt.Fprintln(os.Stderr, "stop the control plane:", err)
		code = 1
	}
	os.Exit(code)
}

// Start returns the package's control plane, started by the first test that asks.
func Start(t testing.TB) (*rest.Config, client.WithWatch) {
	t.Helper()
	require.True(t, server.managed, "controlplane.Start needs: func TestMain(m *testing.M) { controlplane.Main(m) }")
	server.Lock()
	defer server.Unlock()
	if server.config == nil && server.failed == nil {
		server.failed = start(t.Context())
	}
	require.NoError(t, server.failed)
	c, err := client.NewWithWatch(server.config, client.Options{Scheme: Scheme(t)})
	require.NoError(t, err)
	return rest.CopyConfig(server.config), c
}

// Scheme knows Kubernetes' own kinds and Cairn's.
func Scheme(t testing.TB) *kruntime.Scheme {
	scheme := kruntime.NewScheme()
	require.NoError(t, clientgoscheme.AddToScheme(scheme))
	require.NoError(t, v1alpha1.AddToScheme(scheme))
	return scheme
}

func start(ctx context.Context) error {
	if err := lab.EnsureKubernetes(ctx); err != nil {
		return err
	}
	environment := &envtest.Environment{
		BinaryAssetsDirectory: lab.KubernetesDir(),
		CRDDirectoryPaths:     []string{Path("deploy/crds")},
		ErrorIfCRDPathMissing: true,
	}
	// Else it looks for a default route, which not every network namespace has.
	environment.ControlPlane.GetAPIServer().Configure().Set("advertise-address", "127.0.0.1")
	// Every simulated cluster of a test has Services of its own.
	environment.ControlPlane.GetAPIServer().Configure().Set("service-cluster-ip-range", "10.0.0.0/16")
	// With its cache, each list waits for etcd's next progress report, a tenth of a second.
	environment.ControlPlane.GetAPIServer().Configure().Set("watch-cache", "false")
	// Sweeps make and drop small objects by the million; memory is there, processors are not.
	if err := os.Setenv("GOGC", "400"); err != nil {
		return err
	}
	config, err := environment.Start()
	if err != nil {
		_ = environment.Stop()
		return fmt.Errorf("start etcd and kube-apiserver: %w", err)
	}
	config.QPS = -1
	server.environment, server.config = environment, config
	return nil
}

// stop ends the API server, then etcd.
func stop() error {
	server.Lock()
	defer server.Unlock()
	if server.environment == nil {
		return nil
	}
	environment := server.environment
	server.environment, server.config = nil, nil
	return environment.Stop()
}

// Path of a file of the repository.
func Path(name string) string {
	// Tests run in their package's directory.
	dir, err := os.Getwd()
	for err == nil && dir != "/" {
		if _, missing := os.Stat(filepath.Join(dir, "go.mod")); missing == nil {
			break
		}
		dir = filepath.Dir(dir)
	}
	return filepath.Join(dir, name)
}
