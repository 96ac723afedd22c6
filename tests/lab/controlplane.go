package lab

import (
	"context"
	"crypto/tls"
	"crypto/x509"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"time"
)

// controlParts are the processes on the host, in the order in which they start.
var controlParts = []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "host-proxy"}

const etcdURL = "http://127.0.0.1:23790"

// startControlPlane starts everything on the host but its proxy.
func startControlPlane(ctx context.Context) error {
	if err := daemon("etcd", controlCgroup, filepath.Join(KubernetesDir(), "etcd"),
		"--name=lab", "--data-dir="+filepath.Join(Dir(), "etcd"),
		"--listen-client-urls="+etcdURL, "--advertise-client-urls="+etcdURL,
		"--listen-peer-urls=http://127.0.0.1:23800", "--initial-advertise-peer-urls=http://127.0.0.1:23800",
		"--initial-cluster=lab=http://127.0.0.1:23800",
		"--unsafe-no-fsync", // the lab's state ends with the lab
		"--log-level=warn"); err != nil {
		return err
	}
	if err := startAPIServer(); err != nil {
		return err
	}
	// The controller manager gives up when the API server is not there yet.
	if err := waitFor(ctx, "the API server to be ready", 60*time.Second, func() error {
		if !alive("kube-apiserver") {
			return permanent{errors.New("it ended")}
		}
		_, err := apiGet(ctx, "/readyz")
		return err
	}); err != nil {
		return err
	}
	if err := startControllerManager(); err != nil {
		return err
	}
	return daemon("kube-scheduler", controlCgroup, filepath.Join(KubernetesDir(), "kube-scheduler"),
		"--kubeconfig="+filepath.Join(pkiDir(), "scheduler"), "--bind-address=127.0.0.1", "--leader-elect=false")
}

func startAPIServer() error {
	pki := func(file string) string { return filepath.Join(pkiDir(), file) }
	return daemon("kube-apiserver", controlCgroup, filepath.Join(KubernetesDir(), "kube-apiserver"),
		"--etcd-servers="+etcdURL,
		"--bind-address="+hostAddress.String(), "--advertise-address="+hostAddress.String(), fmt.Sprintf("--secure-port=%d", apiPort),
		"--service-cluster-ip-range="+serviceNetwork.String(),
		"--client-ca-file="+pki("ca.crt"), "--tls-cert-file="+pki("apiserver.crt"), "--tls-private-key-file="+pki("apiserver.key"),
		"--kubelet-client-certificate="+pki("kubelet-client.pem"), "--kubelet-client-key="+pki("kubelet-client.pem"),
		"--kubelet-preferred-address-types=InternalIP",
		"--service-account-issuer=https://kubernetes.default.svc",
		"--service-account-key-file="+pki("service-account.key"), "--service-account-signing-key-file="+pki("service-account.key"),
		"--authorization-mode=Node,RBAC", "--enable-admission-plugins=NodeRestriction", "--allow-privileged=true",
		"--endpoint-reconciler-type=lease")
}

func startControllerManager() error {
	return daemon("kube-controller-manager", controlCgroup, filepath.Join(KubernetesDir(), "kube-controller-manager"),
		"--kubeconfig="+filepath.Join(pkiDir(), "controller-manager"), "--bind-address=127.0.0.1", "--leader-elect=false",
		"--use-service-account-credentials=true",
		"--root-ca-file="+filepath.Join(pkiDir(), "ca.crt"),
		"--service-account-private-key-file="+filepath.Join(pkiDir(), "service-account.key"),
		"--cluster-cidr="+podNetwork.String(), "--allocate-node-cidrs=false",
		"--node-monitor-grace-period=20s", "--node-monitor-period=2s",
		// The binder of claims makes five requests for each: by Kubernetes' own
		// default of 20 a second it binds four.
		"--kube-api-qps=200", "--kube-api-burst=400")
}

func hostProxyNote() string { return filepath.Join(Dir(), "host-proxy-tables-are-ours") }

// startHostProxy makes service addresses work on the host too: tests connect to
// what runs in the cluster from there.
func startHostProxy(ctx context.Context) error {
	tables, err := kubeProxyTables(ctx)
	if err != nil {
		return err
	}
	if len(tables) > 0 {
		return errors.New("the host has nftables tables named kube-proxy that are not the lab's")
	}
	if err := os.WriteFile(hostProxyNote(), nil, 0o644); err != nil {
		return err
	}
	// A proxy belongs to a node; which one matters only to services with a
	// local traffic policy.
	config := proxyConfig(nodeName(1), filepath.Join(pkiDir(), "proxy"))
	file := filepath.Join(Dir(), "host-proxy.yaml")
	if err := os.WriteFile(file, []byte(config), 0o644); err != nil {
		return err
	}
	// It ends when its node is deleted, and is to go on all the same.
	return daemon("host-proxy", controlCgroup, "/bin/sh", "-c", `while :; do "$0" "$@"; sleep 1; done`,
		filepath.Join(KubernetesDir(), "kube-proxy"), "--config="+file)
}

// proxyConfig: zeroes leave the machine's connection tracking as it is.
func proxyConfig(node, kubeconfig string) string {
	return fmt.Sprintf(`apiVersion: kubeproxy.config.k8s.io/v1alpha1
kind: KubeProxyConfiguration
mode: nftables
hostnameOverride: %s
clientConnection: {kubeconfig: %s}
clusterCIDR: %s
detectLocalMode: ClusterCIDR
healthzBindAddress: 127.0.0.1:10256
metricsBindAddress: 127.0.0.1:10249
oomScoreAdj: 0
conntrack: {maxPerCore: 0, min: 0, tcpEstablishedTimeout: 0s, tcpCloseWaitTimeout: 0s}
nftables: {minSyncPeriod: 100ms, syncPeriod: 30s}
`, node, kubeconfig, podNetwork)
}

// apiGet asks the API server as the administrator.
func apiGet(ctx context.Context, path string) ([]byte, error) {
	client, err := admin()
	if err != nil {
		return nil, err
	}
	ctx, cancel := context.WithTimeout(ctx, 5*time.Second)
	defer cancel()
	request, err := http.NewRequestWithContext(ctx, http.MethodGet, apiServerURL()+path, nil)
	if err != nil {
		return nil, err
	}
	response, err := client.Do(request)
	if err != nil {
		return nil, fmt.Errorf("ask the API server: %w", err)
	}
	defer func() { _ = response.Body.Close() }()
	body, err := io.ReadAll(response.Body)
	if err != nil {
		return nil, fmt.Errorf("ask the API server: %w", err)
	}
	if response.StatusCode != http.StatusOK {
		return nil, fmt.Errorf("the API server answers %s to %s", response.Status, path)
	}
	return body, nil
}

func admin() (*http.Client, error) {
	pair, err := tls.LoadX509KeyPair(filepath.Join(pkiDir(), "kubelet-client.pem"), filepath.Join(pkiDir(), "kubelet-client.pem"))
	if err != nil {
		return nil, fmt.Errorf("administrator's certificate: %w", err)
	}
	ca, err := os.ReadFile(filepath.Join(pkiDir(), "ca.crt"))
	if err != nil {
		return nil, fmt.Errorf("certificate authority: %w", err)
	}
	pool := x509.NewCertPool()
	pool.AppendCertsFromPEM(ca)
	return &http.Client{Transport: &http.Transport{
		TLSClientConfig:   &tls.Config{RootCAs: pool, Certificates: []tls.Certificate{pair}, MinVersion: tls.VersionTLS12},
		DisableKeepAlives: true,
	}}, nil
}

// readyNodes asks Kubernetes which nodes are Ready.
func readyNodes(ctx context.Context) (map[string]bool, error) {
	body, err := apiGet(ctx, "/api/v1/nodes")
	if err != nil {
		return nil, err
	}
	var list struct {
		Items []struct {
			Metadata struct{ Name string }
			Status   struct {
				Conditions []struct{ Type, Status string }
			}
		}
	}
	if err := json.Unmarshal(body, &list); err != nil {
		return nil, fmt.Errorf("decode nodes: %w", err)
	}
	ready := map[string]bool{}
	for _, item := range list.Items {
		for _, condition := range item.Status.Conditions {
			if condition.Type == "Ready" {
				ready[item.Metadata.Name] = condition.Status == "True"
			}
		}
	}
	return ready, nil
}

func waitNodesReady(ctx context.Context, nodes int, deadline time.Duration) error {
	return waitFor(ctx, "nodes to be Ready", deadline, func() error {
		ready, err := readyNodes(ctx)
		if err != nil {
			return err
		}
		var missing []string
		for index := 1; index <= nodes; index++ {
			if !ready[nodeName(index)] {
				missing = append(missing, nodeName(index))
			}
		}
		if len(missing) > 0 {
			return fmt.Errorf("not ready: %s", strings.Join(missing, ", "))
		}
		return nil
	})
}
