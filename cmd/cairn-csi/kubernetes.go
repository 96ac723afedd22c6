package main

import (
	"fmt"

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
	f.Float32Var(&k.qps, "kube-api-qps", 50, "requests a second to the API server")
	f.IntVar(&k.burst, "kube-api-burst", 100, "requests at once to the API server")
}

func (k *kube) client() (kubernetes.Interface, error) {
	config, err := k.load()
	if err != nil {
		return nil, fmt.Errorf("configure the Kubernetes client: %w", err)
	}
	config.QPS, config.Burst = k.qps, k.burst
	config.ContentType = "application/vnd.kubernetes.protobuf"
	config.AcceptContentTypes = "application/vnd.kubernetes.protobuf,application/json"
	config.UserAgent = "cairn-csi/" + version
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
