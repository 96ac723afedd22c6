package main

import (
	"context"
	"errors"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strconv"
	"strings"
	"syscall"
	"time"

	"golang.org/x/sync/errgroup"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/rest"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/envtest"

	"github.com/cairn-storage/cairn/csi/identity"
	"github.com/cairn-storage/cairn/tests/bench/result"
	"github.com/cairn-storage/cairn/tests/lab"
)

const knownVolumes = 10000

// memory measures the controller process where Kubernetes has many volumes: the
// API server is real, its volumes, claims and attachments are written by hand.
func memory(ctx context.Context, b *bench) (entries []result.Entry, err error) {
	if err := b.buildLocal(ctx); err != nil {
		return nil, err
	}
	if err := lab.EnsureKubernetes(ctx); err != nil {
		return nil, err
	}
	environment := &envtest.Environment{BinaryAssetsDirectory: lab.KubernetesDir()}
	environment.ControlPlane.GetAPIServer().Configure().Set("advertise-address", "127.0.0.1")
	config, err := environment.Start()
	defer func() { err = errors.Join(err, environment.Stop()) }()
	if err != nil {
		return nil, err
	}
	client, err := kubernetes.NewForConfig(unlimited(config))
	if err != nil {
		return nil, err
	}
	dir, err := os.MkdirTemp("", "cairn-bench-*")
	if err != nil {
		return nil, err
	}
	defer func() { err = errors.Join(err, os.RemoveAll(dir)) }()
	if _, err := client.CoreV1().Namespaces().Create(ctx, &corev1.Namespace{ObjectMeta: metav1.ObjectMeta{Name: "cairn-system"}}, metav1.CreateOptions{}); err != nil {
		return nil, err
	}
	empty, err := b.controllerMemory(ctx, dir, environment.KubeConfig)
	if err != nil {
		return nil, err
	}
	if err := fillVolumes(ctx, client); err != nil {
		return nil, fmt.Errorf("make %d volumes: %w", knownVolumes, err)
	}
	b.say("Kubernetes has %d volumes, bound and attached", knownVolumes)
	full, err := b.controllerMemory(ctx, dir, environment.KubeConfig)
	if err != nil {
		return nil, err
	}
	return []result.Entry{result.New("memory", "controller_mib_10k", "MiB", full,
		"%d volumes with claims and attachments in a real API server; %.3g MiB with none", knownVolumes, empty)}, nil
}

func unlimited(config *rest.Config) *rest.Config {
	config = rest.CopyConfig(config)
	config.QPS = -1
	return config
}

// controllerMemory starts the controller, lets it come to rest and returns its VmRSS.
func (b *bench) controllerMemory(ctx context.Context, dir string, kubeconfig []byte) (float64, error) {
	file := filepath.Join(dir, "kubeconfig")
	if err := os.WriteFile(file, kubeconfig, 0o600); err != nil {
		return 0, err
	}
	socket := filepath.Join(dir, "csi.sock")
	program := filepath.Join(b.repository, "bin", "bench-csi")
	// exec, so that the process that was started is the controller's own.
	cmd := exec.CommandContext(ctx, filepath.Join(b.repository, "images", "in-root"), program, "controller",
		"--kubeconfig", file, "--socket", socket, "--http-address", "")
	cmd.Dir = b.repository
	cmd.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	stop := func() error { return syscall.Kill(-cmd.Process.Pid, syscall.SIGTERM) }
	cmd.Cancel, cmd.WaitDelay = stop, 30*time.Second
	if err := cmd.Start(); err != nil {
		return 0, err
	}
	defer func() { _ = stop(); _ = cmd.Wait() }()
	// The first lists leave garbage that the runtime gives back after a while.
	select {
	case <-time.After(45 * time.Second):
	case <-ctx.Done():
		return 0, ctx.Err()
	}
	out, err := exec.CommandContext(ctx, "pgrep", "-f", "^"+program+" controller").Output()
	if err != nil {
		return 0, fmt.Errorf("find the controller's process: %w", err)
	}
	pid, err := strconv.Atoi(strings.TrimSpace(string(out)))
	if err != nil {
		return 0, fmt.Errorf("find the controller's process: %w", err)
	}
	return residentOf(pid)
}

func residentOf(pid int) (float64, error) {
	raw, err := os.ReadFile(fmt.Sprintf("/proc/%d/status", pid))
	if err != nil {
		return 0, err
	}
	return vmRSS(string(raw))
}

// vmRSS adds up, in MiB, what the status files of some processes have as VmRSS.
func vmRSS(status string) (mib float64, err error) {
	found := false
	for line := range strings.Lines(status) {
		if f := strings.Fields(line); len(f) > 1 && f[0] == "VmRSS:" {
			kib, err := strconv.ParseFloat(f[1], 64)
			if err != nil {
				return 0, err
			}
			mib, found = mib+kib/1024, true
		}
	}
	if !found {
		return 0, errors.New("no process with a VmRSS")
	}
	return mib, nil
}

func fillVolumes(ctx context.Context, client kubernetes.Interface) error {
	group, ctx := errgroup.WithContext(ctx)
	group.SetLimit(32)
	for i := range knownVolumes {
		group.Go(func() error { return makeVolume(ctx, client, i) })
	}
	return group.Wait()
}

// makeVolume makes a bound claim, its volume, and its attachment.
func makeVolume(ctx context.Context, client kubernetes.Interface, i int) error {
	size := corev1.ResourceList{corev1.ResourceStorage: resource.MustParse("1Gi")}
	name := fmt.Sprintf("pvc-00000000-0000-0000-0000-%012d", i)
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: metav1.ObjectMeta{Name: fmt.Sprintf("data-%d", i), Namespace: namespace},
		Spec: corev1.PersistentVolumeClaimSpec{AccessModes: []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			StorageClassName: ptr.To("bench"), VolumeName: name, Resources: corev1.VolumeResourceRequirements{Requests: size}},
	}
	claim, err := client.CoreV1().PersistentVolumeClaims(namespace).Create(ctx, claim, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	claim.Status = corev1.PersistentVolumeClaimStatus{Phase: corev1.ClaimBound, Capacity: size, AccessModes: claim.Spec.AccessModes}
	if _, err := client.CoreV1().PersistentVolumeClaims(namespace).UpdateStatus(ctx, claim, metav1.UpdateOptions{}); err != nil {
		return err
	}
	volume := &corev1.PersistentVolume{
		ObjectMeta: metav1.ObjectMeta{Name: name, Annotations: map[string]string{"pv.kubernetes.io/provisioned-by": identity.DriverName}},
		Spec: corev1.PersistentVolumeSpec{Capacity: size, AccessModes: claim.Spec.AccessModes, StorageClassName: "bench",
			ClaimRef: &corev1.ObjectReference{Kind: "PersistentVolumeClaim", APIVersion: "v1", Namespace: namespace, Name: claim.Name, UID: claim.UID},
			PersistentVolumeSource: corev1.PersistentVolumeSource{CSI: &corev1.CSIPersistentVolumeSource{Driver: identity.DriverName,
				VolumeHandle: "1.6f0c1d2e3b4a4c5d8e6f7a8b9c0d1e2f.2.." + name, FSType: "ext4", VolumeAttributes: map[string]string{"pool": "bench"}}}},
	}
	if _, err := client.CoreV1().PersistentVolumes().Create(ctx, volume, metav1.CreateOptions{}); err != nil {
		return err
	}
	attachment := &storagev1.VolumeAttachment{
		ObjectMeta: metav1.ObjectMeta{Name: "csi-" + name},
		Spec: storagev1.VolumeAttachmentSpec{Attacher: identity.DriverName, NodeName: fmt.Sprintf("node%d", i%100),
			Source: storagev1.VolumeAttachmentSource{PersistentVolumeName: &name}},
	}
	attachment, err = client.StorageV1().VolumeAttachments().Create(ctx, attachment, metav1.CreateOptions{})
	if err != nil {
		return err
	}
	attachment.Status.Attached = true
	_, err = client.StorageV1().VolumeAttachments().UpdateStatus(ctx, attachment, metav1.UpdateOptions{})
	return err
}
