package lab

import (
	"context"
	"errors"
	"fmt"
	"io/fs"
	"os"
	"os/exec"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

const kubernetesVersion = "v1.36.3"

func kubernetesBinary() string {
	return filepath.Join(CacheDir(), "bin", "kubernetes-"+kubernetesVersion)
}

// EnsureKubernetes builds Kubernetes, once for a version, and gives its parts
// their names below KubernetesDir.
func EnsureKubernetes(ctx context.Context) error {
	if err := buildKubernetes(ctx); err != nil {
		return err
	}
	if err := os.MkdirAll(KubernetesDir(), 0o755); err != nil {
		return fmt.Errorf("name the parts of Kubernetes: %w", err)
	}
	for _, part := range []string{"etcd", "kube-apiserver", "kube-controller-manager", "kube-scheduler", "kube-proxy", "kubelet", "kubectl"} {
		path := filepath.Join(KubernetesDir(), part)
		_ = os.Remove(path)
		if err := os.Symlink(kubernetesBinary(), path); err != nil {
			return fmt.Errorf("name the parts of Kubernetes: %w", err)
		}
	}
	return nil
}

func buildKubernetes(ctx context.Context) error {
	if err := os.MkdirAll(filepath.Join(CacheDir(), "lock"), 0o755); err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	lockFile, err := os.OpenFile(filepath.Join(CacheDir(), "lock", "kubernetes"), os.O_CREATE|os.O_RDWR, 0o644)
	if err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	defer func() { _ = lockFile.Close() }()
	if err := unix.Flock(int(lockFile.Fd()), unix.LOCK_EX); err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	if _, err := os.Stat(kubernetesBinary()); !errors.Is(err, fs.ErrNotExist) {
		return err
	}
	repo, err := repository()
	if err != nil {
		return err
	}
	if err := os.MkdirAll(filepath.Dir(kubernetesBinary()), 0o755); err != nil {
		return fmt.Errorf("build Kubernetes: %w", err)
	}
	partial := kubernetesBinary() + ".partial"
	cmd := exec.CommandContext(ctx, "go", "build", "-trimpath", "-tags", "providerless",
		"-ldflags", "-s -w -X k8s.io/component-base/version.gitVersion="+kubernetesVersion, "-o", partial, ".")
	cmd.Dir = filepath.Join(repo, "tests/lab/kubernetes")
	cmd.Env = append(os.Environ(), "CGO_ENABLED=0")
	if out, err := cmd.CombinedOutput(); err != nil {
		return fmt.Errorf("build Kubernetes: %w: %s", err, lastLines(string(out), 20))
	}
	return os.Rename(partial, kubernetesBinary())
}

// repository finds Cairn's sources above the working directory.
func repository() (string, error) {
	start, err := os.Getwd()
	if err != nil {
		return "", fmt.Errorf("find the repository: %w", err)
	}
	for dir := start; ; dir = filepath.Dir(dir) {
		data, err := os.ReadFile(filepath.Join(dir, "go.mod"))
		if err == nil && strings.HasPrefix(string(data), "module github.com/cairn-storage/cairn\n") {
			return dir, nil
		}
		if dir == filepath.Dir(dir) {
			return "", fmt.Errorf("%s is not inside Cairn's repository: run the lab there", start)
		}
	}
}

func lastLines(text string, n int) string {
	lines := strings.Split(strings.TrimSpace(text), "\n")
	return strings.Join(lines[max(0, len(lines)-n):], "\n")
}
