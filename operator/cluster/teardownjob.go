package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/osd"
)

// wipeComponent is the label of the Jobs that empty disks.
const wipeComponent = "wipe"

// job empties the disks of the cluster's OSDs on a node. Its name is this
// StorageCluster's own: one that another of the same name left behind is no sign
// that anything is done.
func (t *Teardown) job(node string) *batchv1.Job {
	sum := sha256.Sum256([]byte(string(t.Cluster.UID) + "/" + node))
	instance := hex.EncodeToString(sum[:6])
	return wipeJob(t.Cluster, wipeComponent, fmt.Sprintf("%s-wipe-%s", t.Cluster.Name, instance), instance, t.Image, node, t.wipeCommand(node))
}

// wipePod runs on its node whatever taints that has: nothing else can reach its disks.
func wipePod(cluster *v1alpha1.StorageCluster, component, image, node string, command []string) corev1.PodSpec {
	volumes := []corev1.Volume{
		hostPath("dev", "/dev", corev1.HostPathDirectory), hostPath("sys", "/sys", corev1.HostPathDirectory),
		hostPath("data", cluster.Spec.DataPath, corev1.HostPathDirectoryOrCreate),
	}
	var mounts []corev1.VolumeMount
	for _, volume := range volumes {
		mounts = append(mounts, corev1.VolumeMount{Name: volume.Name, MountPath: volume.HostPath.Path})
	}
	return corev1.PodSpec{
		NodeName:                     node,
		RestartPolicy:                corev1.RestartPolicyOnFailure,
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		HostPID:                      true, // the node's own mounts are looked at
		PriorityClassName:            "system-node-critical",
		Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Volumes:                      volumes,
		Containers: []corev1.Container{{
			Name: component, Image: image, ImagePullPolicy: cluster.Spec.Ceph.ImagePullPolicy,
			Command: command, VolumeMounts: mounts,
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext:          &corev1.SecurityContext{Privileged: ptr.To(true), RunAsUser: ptr.To[int64](0)},
		}},
	}
}

func hostPath(name, path string, kind corev1.HostPathType) corev1.Volume {
	return corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}}
}

func (t *Teardown) wipeCommand(node string) []string {
	command := []string{"cairn-daemon", "wipe", "--data-path", t.Cluster.Spec.DataPath, "--namespace", t.Cluster.Namespace, "--cluster", t.Cluster.Name}
	if t.fsid() == "" {
		return command
	}
	command = append(command, "--fsid", t.fsid(), "--every")
	for _, name := range slices.Sorted(maps.Keys(t.Secrets)) {
		target := osd.TargetOf(t.Secrets[name])
		if target.UUID == "" {
			continue
		}
		command = append(command, "--osd", target.UUID)
		if target.Node == node && target.Claim == "" {
			command = append(command, "--device", target.Path())
			if target.DB != "" {
				command = append(command, "--device", target.DBPath())
			}
		}
	}
	return command
}
