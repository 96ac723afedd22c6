package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"path"
	"slices"
	"strings"

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
	return o.byJob(step("recovery-"+verb, what+", on node "+record.Node, "a quorum of one mon begins with its store", gate), o.recoveryJob(record, image, verb), record.Node)
}

// byJob is a step that a Job on a node does, unless it is done.
func (o *Observed) byJob(s Step, want *batchv1.Job, node string) (_ Step, done bool) {
	job := o.Jobs[want.Name]
	if job != nil && job.Status.Succeeded > 0 {
		return s, true
	}
	s.Risk = v1alpha1.RiskNone // what is destroyed is so by giving up the others
	if found := o.node(node); found == nil || !kube.NodeAnswers(found) {
		s.Gate, s.Reason = fmt.Sprintf("node %s is ready, which has what is needed of %s", node, listOf(o.storesOn(node))), v1alpha1.ReasonNodeGone
		return s, false
	}
	if s.Gate != "" {
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

// endJobs are the steps until no Job works on a store or a disk.
func (o *Observed) endJobs() (steps []Step) {
	for _, name := range slices.Sorted(maps.Keys(o.Jobs)) {
		if job := o.Jobs[name]; job.Status.Succeeded == 0 {
			steps = append(steps, o.endJob(name, job, "daemons start again, and use what it works on"))
		}
	}
	return steps
}

// endLeftJobs deletes the Jobs that have not ended, on nodes that are given up: they would
// go on when their node comes back.
func (r *Reconciler) endLeftJobs(ctx context.Context, o *Observed) error {
	for _, name := range slices.Sorted(maps.Keys(o.Jobs)) {
		if job := o.Jobs[name]; job.Status.Succeeded == 0 && job.DeletionTimestamp == nil {
			if err := r.delete(ctx, job, client.PropagationPolicy(metav1.DeletePropagationForeground)); err != nil {
				return err
			}
		}
	}
	return nil
}

// endJob deletes a Job, which stays until its pod is gone.
func (o *Observed) endJob(name string, job *batchv1.Job, why string) Step {
	s := step(name, "end Job "+job.Name, why, "")
	s.Risk = v1alpha1.RiskNone
	if job.DeletionTimestamp != nil {
		s.What, s.Wait = fmt.Sprintf("wait for Job %s to be gone, asked for at %s", job.Name, clock(job.DeletionTimestamp.Time)), true
		name := job.Spec.Template.Spec.NodeName
		if node := o.node(name); node != nil && !kube.NodeAnswers(node) {
			s.Gate, s.Reason = fmt.Sprintf("node %s is ready, on which its pod may still run. Bring it back; or, when it is gone for ever, delete it from Kubernetes", name), v1alpha1.ReasonNodeGone
		}
		return s
	}
	s.Stop = []client.Object{job}
	return s
}

// recoveryInstance tells the Jobs of this rebuilding from those of any other.
func (o *Observed) recoveryInstance(record *v1alpha1.MonRecoveryStatus, verb string, of ...string) string {
	sum := sha256.Sum256([]byte(strings.Join(append([]string{string(o.Cluster.UID), record.Backup}, of...), "/")))
	return verb + "-" + hex.EncodeToString(sum[:6])
}

// recoveryJob changes the store of the mon that is left.
func (o *Observed) recoveryJob(record *v1alpha1.MonRecoveryStatus, image, verb string) *batchv1.Job {
	stores := path.Join(o.Cluster.Spec.DataPath, o.Cluster.Namespace, o.Cluster.Name)
	return o.jobOn(record, image, record.Node, o.recoveryInstance(record, verb), []string{"/cairn/cairn-daemon", "mon", verb, "--dir", stores,
		"--mon", record.From, "--fsid", o.Keys.FSID, "--backup", record.Backup})
}

// jobOn runs a command on a node, over the stores there, with the Ceph of the mons.
func (o *Observed) jobOn(record *v1alpha1.MonRecoveryStatus, image, node, instance string, command []string) *batchv1.Job {
	return &batchv1.Job{
		ObjectMeta: kube.Meta(o.Cluster, fmt.Sprintf("%s-mon-%s", o.Cluster.Name, instance), recoveryComponent, instance),
		Spec: batchv1.JobSpec{
			// It tries until it succeeds; why it does not is in the StorageCluster's status.
			BackoffLimit: ptr.To[int32](1 << 20),
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: kube.Labels(o.Cluster, recoveryComponent, instance)},
				Spec: o.recoveryPod(record, image, node, command)},
		},
	}
}

func privileged() *corev1.SecurityContext {
	return &corev1.SecurityContext{Privileged: ptr.To(true), RunAsUser: ptr.To[int64](0)}
}

func (o *Observed) recoveryPod(record *v1alpha1.MonRecoveryStatus, image, node string, command []string) corev1.PodSpec {
	stores := path.Join(o.Cluster.Spec.DataPath, o.Cluster.Namespace, o.Cluster.Name)
	kind := corev1.HostPathDirectory
	if fromOSDs(record) {
		kind = corev1.HostPathDirectoryOrCreate // where no mon was there is none
	}
	volumes := []corev1.Volume{hostPath("stores", stores, kind),
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
		NodeName:                     node,
		RestartPolicy:                corev1.RestartPolicyOnFailure,
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		PriorityClassName:            "system-node-critical",
		Tolerations:                  []corev1.Toleration{{Operator: corev1.TolerationOpExists}},
		Volumes:                      volumes,
		InitContainers:               []corev1.Container{container("install", image, "cairn-daemon", "install", "/cairn")},
		Containers:                   []corev1.Container{container(mon.Component, record.Image, command...)},
	}
}
