package main

import (
	"fmt"

	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	"github.com/spf13/pflag"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/client-go/tools/clientcmd"
)

// kube is how the API server is reached.
type kube struct {
	config, namespace string
	qps               float32
	burst             int
}

func (k *kube) flags(f *pflag.FlagSet) {
	f.StringVar(&k.config, "kubeconfig", "", "kubeconfig file; empty means the pod's own ServiceAccount")
	f.StringVar(&k.namespace, "namespace", env("POD_NAMESPACE", "cairn-system"), "namespace of the driver and its Secrets ($POD_NAMESPACE)")
	f.Float32Var(&k.qps, "kube-api-qps", 200, "requests a second to the API server")
	f.IntVar(&k.burst, "kube-api-burst", 400, "requests at once to the API server")
}

func (k *kube) client() (kubernetes.Interface, error) {
	config, err := k.configure()
	if err != nil {
		return nil, err
	}
	return protobufClient(config)
}

// clients of Kubernetes' own objects and of those of snapshots, which are served
// as JSON only.
func (k *kube) clients() (kubernetes.Interface, snapshots.Interface, error) {
	config, err := k.configure()
	if err != nil {
		return nil, nil, err
	}
	ofSnapshots, err := snapshots.NewForConfig(config)
	if err != nil {
		return nil, nil, fmt.Errorf("make the client of snapshots: %w", err)
	}
	client, err := protobufClient(config)
	return client, ofSnapshots, err
}

func (k *kube) configure() (*rest.Config, error) {
	config, err := k.load()
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	config.QPS, config.Burst = k.qps, k.burst
	config.UserAgent = "cairn-csi/" + version
	return config, nil
}

func protobufClient(config *rest.Config) (kubernetes.Interface, error) {
	config = rest.CopyConfig(config)
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	client, err := kubernetes.NewForConfig(config)
	if err != nil {
		return nil, fmt.Errorf("make the Kubernetes client: %w", err)
	}
	return client, nil
}

func (k *kube) load() (*rest.Config, error) {
	if k.config == "" {
		return rest.InClusterConfig()
	}
	return clientcmd.BuildConfigFromFlags("", k.config)
}
