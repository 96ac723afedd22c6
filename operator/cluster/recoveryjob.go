package cluster

import (
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"path"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// recoveryComponent is the label of the Jobs that rebuild a quorum.
const recoveryComponent = "mon-recovery"

// surgery is the next step of what a Job does to the store, unless it is done.
func (o *Observed) surgery(record *v1alpha1.MonRecoveryStatus, image, verb, what, gate string) (s Step, done bool) {
	want := o.recoveryJob(record, image, verb)
	job := o.Jobs[want.Name]
	if job != nil && job.Status.Succeeded > 0 {
		return Step{}, true
	}
	s = step("recovery-"+verb, what+", on node "+record.Node, "a quorum of one mon begins with its store", gate)
	s.Risk = v1alpha1.RiskNone // what is destroyed is so by giving up the others
	if node := o.node(record.Node); node == nil || !kube.NodeAnswers(node) {
		s.Gate, s.Reason = fmt.Sprintf("node %s, which has the store of mon %s, is ready", record.Node, record.From), v1alpha1.ReasonNodeGone
		return s, false
	}
	if gate != "" {
		return s, false
	}
	if job == nil {
		s.Create = []client.Object{want}
		return s, false
	}
	s.What = fmt.Sprintf("wait for Job %s, which is to %s, since %s", job.Name, s.What, clock(job.CreationTimestamp.Time))
	s.Wait = true
	return s, false
}

// recoveryJob changes the store with the Ceph that its mon runs. Its name is that of
// this rebuilding alone.
func (o *Observed) recoveryJob(record *v1alpha1.MonRecoveryStatus, image, verb string) *batchv1.Job {
	sum := sha256.Sum256([]byte(string(o.Cluster.UID) + "/" + record.Backup))
	instance := verb + "-" + hex.EncodeToString(sum[:6])
	labels := kube.Labels(o.Cluster, recoveryComponent, instance)
	return &batchv1.Job{
		ObjectMeta: kube.Meta(o.Cluster, fmt.Sprintf("%s-mon-%s", o.Cluster.Name, instance), recoveryComponent, instance),
		Spec: batchv1.JobSpec{
			// It tries until it succeeds; why it does not is in the StorageCluster's status.
			BackoffLimit: ptr.To[int32](1 << 20),
			Template:     corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: o.recoveryPod(record, image, verb)},
		},
	}
}

func (o *Observed) recoveryPod(record *v1alpha1.MonRecoveryStatus, image, verb string) corev1.PodSpec {
	stores := path.Join(o.Cluster.Spec.DataPath, o.Cluster.Namespace, o.Cluster.Name)
	volumes := []corev1.Volume{hostPath("stores", stores, corev1.HostPathDirectory),
		{Name: "cairn", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}},
		{Name: "tmp", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}}
	mounts := []corev1.VolumeMount{{Name: "stores", MountPath: stores}, {Name: "cairn", MountPath: "/cairn"}, {Name: "tmp", MountPath: "/tmp"}}
	container := func(name, image string, command ...string) corev1.Container {
		return corev1.Container{
			Name: name, Image: image, ImagePullPolicy: o.Cluster.Spec.Ceph.ImagePullPolicy, Command: command, VolumeMounts: mounts,
			TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
			SecurityContext: &corev1.SecurityContext{RunAsUser: ptr.To[int64](0), AllowPrivilegeEscalation: ptr.To(false),
				Capabilities:   &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
				SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault}},
		}
	}
	return corev1.PodSpec{
		NodeName:                     record.Node,
		RestartPolicy:                corev1.RestartPolicyOnFailure,
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		PriorityClassName:            "system-node-critical",
		Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Volumes:                      volumes,
		InitContainers:               []corev1.Container{container("install", image, "cairn-daemon", "install", "/cairn")},
		Containers: []corev1.Container{container(mon.Component, record.Image, "/cairn/cairn-daemon", "mon", verb, "--dir", stores,
			"--mon", record.From, "--fsid", o.Keys.FSID, "--backup", record.Backup)},
	}
}
