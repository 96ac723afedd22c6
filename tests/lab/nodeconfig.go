package lab

import (
	"fmt"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// loopDevices is how many loop devices a node can open, the most at one time on
// the whole machine.
const loopDevices = 256

func loopsDir() string { return filepath.Join(Dir(), "loops") }

// makeLoopNodes makes the device files that every node copies to its /dev.
func makeLoopNodes() error {
	if err := os.MkdirAll(loopsDir(), 0o755); err != nil {
		return fmt.Errorf("make loop device files: %w", err)
	}
	for minor := range uint32(loopDevices) {
		path := filepath.Join(loopsDir(), fmt.Sprintf("loop%d", minor))
		if err := unix.Mknod(path, unix.S_IFBLK|0o660, int(unix.Mkdev(7, minor))); err != nil {
			return fmt.Errorf("make %s: %w", path, err)
		}
	}
	return nil
}

// writeConfig writes what the node's init and its programs read.
func (n *Node) writeConfig(fresh bool) error {
	dir := nodeDir(n.Name)
	files := map[string]string{
		"init.sh":               string(initScript),
		"node.env":              n.environment(),
		"binds":                 bindLines(n.Name),
		"containerd.toml":       containerdConfig(true),
		"containerd-plain.toml": containerdConfig(false),
		"kubelet.yaml":          n.kubeletConfig(),
		"kube-proxy.yaml":       proxyConfig(n.Name, filepath.Join(pkiDir(), "proxy")),
		"net.d/10-lab.conflist": n.podNetworkConfig(),
	}
	if fresh {
		files["fresh"] = ""
	}
	if err := os.MkdirAll(filepath.Join(dir, "dev"), 0o755); err != nil {
		return fmt.Errorf("configure %s: %w", n.Name, err)
	}
	for name, text := range files {
		if err := os.WriteFile(filepath.Join(dir, name), []byte(text), 0o644); err != nil {
			return fmt.Errorf("configure %s: %w", n.Name, err)
		}
	}
	return nil
}

func (n *Node) environment() string {
	return fmt.Sprintf("NODE=%s\nADDRESS=%s\nZONE=zone%d\nAPI_HOST=%s\nAPI_PORT=%d\nBIN=%s\nKUBECONFIG_NODE=%s\n",
		n.Name, nodeAddress(n.index), n.index, hostAddress, apiPort, KubernetesDir(), filepath.Join(pkiDir(), n.Name))
}

func bindLines(name string) string {
	var text strings.Builder
	for _, bind := range nodeBinds(name) {
		fmt.Fprintf(&text, "%s %s\n", bind.source, bind.target)
	}
	return text.String()
}

// containerdConfig: without CAP_SYS_RESOURCE, which a machine may lack,
// containerd must not raise anything's OOM protection.
func containerdConfig(cri bool) string {
	disabled := `"io.containerd.snapshotter.v1.aufs", "io.containerd.snapshotter.v1.btrfs", "io.containerd.snapshotter.v1.devmapper", "io.containerd.snapshotter.v1.zfs", "io.containerd.internal.v1.opt"`
	if !cri {
		disabled += `, "io.containerd.grpc.v1.cri"`
	}
	return fmt.Sprintf(`version = 2
disabled_plugins = [%s]
oom_score = 0

[plugins."io.containerd.grpc.v1.cri"]
  sandbox_image = "cairn.storage/pause:1"
  restrict_oom_score_adj = true
  disable_apparmor = true
  [plugins."io.containerd.grpc.v1.cri".containerd]
    snapshotter = "overlayfs"
    default_runtime_name = "runc"
    [plugins."io.containerd.grpc.v1.cri".containerd.runtimes.runc]
      runtime_type = "io.containerd.runc.v2"
  [plugins."io.containerd.grpc.v1.cri".cni]
    bin_dir = "/usr/lib/cni"
    conf_dir = "/etc/cni/net.d"
`, disabled)
}

// kubeletConfig: quick to notice and to report; no eviction and no image
// collection, since all nodes share the machine's one disk.
func (n *Node) kubeletConfig() string {
	return fmt.Sprintf(`apiVersion: kubelet.config.k8s.io/v1beta1
kind: KubeletConfiguration
authentication:
  anonymous: {enabled: false}
  webhook: {enabled: true}
  x509: {clientCAFile: %s}
authorization: {mode: Webhook}
containerRuntimeEndpoint: unix:///run/containerd/containerd.sock
cgroupDriver: cgroupfs
cgroupRoot: %s
failCgroupV1: false
failSwapOn: false
oomScoreAdj: 0
nodeStatusUpdateFrequency: 4s
nodeStatusReportFrequency: 10s
nodeLeaseDurationSeconds: 8
syncFrequency: 10s
imageGCHighThresholdPercent: 100
evictionHard: {memory.available: 50Mi, nodefs.available: 1%%, imagefs.available: 1%%, nodefs.inodesFree: 1%%}
registryPullQPS: 0
kubeAPIQPS: 100
kubeAPIBurst: 200
maxPods: 200
`, filepath.Join(pkiDir(), "ca.crt"), cgroupPath(n.Name))
}

func (n *Node) podNetworkConfig() string {
	return fmt.Sprintf(`{
  "cniVersion": "1.0.0",
  "name": "lab",
  "plugins": [
    {
      "type": "bridge", "bridge": "cni0", "isGateway": true, "hairpinMode": true,
      "ipam": {"type": "host-local", "ranges": [[{"subnet": %q}]], "routes": [{"dst": "0.0.0.0/0"}]}
    },
    {"type": "portmap", "capabilities": {"portMappings": true}}
  ]
}
`, podCIDR(n.index))
}
