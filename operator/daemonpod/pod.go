// Package daemonpod builds the pod of a Ceph daemon: what all of them have in
// common stands here once.
package daemonpod

import (
	"maps"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

// ConfigName of the ConfigMap with ceph.conf.
func ConfigName(cluster *v1alpha1.StorageCluster) string { return cluster.Name + "-ceph-conf" }

// Pod is a daemon's pod in the making.
type Pod struct {
	cluster             *v1alpha1.StorageCluster
	component, instance string
	spec                corev1.PodSpec
	mounts              []corev1.VolumeMount
	devices             []corev1.VolumeDevice
	privileged          bool
	lifecycle           *corev1.Lifecycle
	annotations         map[string]string
}

// New starts a pod with the cluster's configuration mounted.
func New(cluster *v1alpha1.StorageCluster, component, instance string) *Pod {
	p := &Pod{cluster: cluster, component: component, instance: instance, annotations: map[string]string{}}
	p.spec = corev1.PodSpec{
		AutomountServiceAccountToken: ptr.To(false),
		EnableServiceLinks:           ptr.To(false),
		HostNetwork:                  cluster.Spec.Network.Provider == "host",
		Tolerations:                  tolerations(cluster.Spec.Placement.Tolerations),
		PriorityClassName:            "system-cluster-critical",
		// Daemons find each other by address: they need no cluster DNS.
		DNSPolicy: corev1.DNSDefault,
	}
	p.mount("config", "/etc/ceph", corev1.VolumeSource{ConfigMap: &corev1.ConfigMapVolumeSource{
		LocalObjectReference: corev1.LocalObjectReference{Name: ConfigName(cluster)},
	}})
	return p
}

// tolerations keep a daemon where its data is when its node is lost: no other
// node can run it, and an eviction would only delete what comes back by itself.
func tolerations(more []corev1.Toleration) []corev1.Toleration {
	stay := []corev1.Toleration{
		{Key: corev1.TaintNodeNotReady, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
		{Key: corev1.TaintNodeUnreachable, Operator: corev1.TolerationOpExists, Effect: corev1.TaintEffectNoExecute},
	}
	return append(stay, more...)
}

// OnNode pins the pod to a node.
func (p *Pod) OnNode(name string) {
	p.spec.NodeSelector = map[string]string{corev1.LabelHostname: name}
}

// Spread keeps the pods of a component on different nodes where that is possible.
func (p *Pod) Spread(selector map[string]string) {
	p.spec.NodeSelector = selector
	labels := kube.Labels(p.cluster, p.component, "")
	p.spec.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{
			Weight:          100,
			PodAffinityTerm: corev1.PodAffinityTerm{LabelSelector: &metav1.LabelSelector{MatchLabels: labels}, TopologyKey: corev1.LabelHostname},
		}},
	}}
}

// SpreadEvenly spreads the pods of a component over zones and nodes, as far as that is possible.
func (p *Pod) SpreadEvenly() {
	for _, key := range []string{corev1.LabelTopologyZone, corev1.LabelHostname} {
		p.spec.TopologySpreadConstraints = append(p.spec.TopologySpreadConstraints, corev1.TopologySpreadConstraint{
			MaxSkew: 1, TopologyKey: key, WhenUnsatisfiable: corev1.ScheduleAnyway,
			LabelSelector: &metav1.LabelSelector{MatchLabels: kube.Labels(p.cluster, p.component, "")},
		})
	}
}

// StopsWithin bounds how long the daemon may take to stop, in seconds.
func (p *Pod) StopsWithin(seconds int64) { p.spec.TerminationGracePeriodSeconds = &seconds }

// ServesOn has the daemon go on for some seconds after its pod is asked to stop.
func (p *Pod) ServesOn(seconds int) {
	p.lifecycle = &corev1.Lifecycle{PreStop: &corev1.LifecycleHandler{Exec: &corev1.ExecAction{Command: []string{"sleep", strconv.Itoa(seconds)}}}}
}

// Privileged gives the pod's containers the node's devices.
func (p *Pod) Privileged() { p.privileged = true }

// Annotate the pod and its Deployment.
func (p *Pod) Annotate(key, value string) { p.annotations[key] = value }

// HostPath mounts a path of the node.
func (p *Pod) HostPath(name, source, target string, kind corev1.HostPathType) {
	p.mount(name, target, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: source, Type: &kind}})
}

// Secret mounts some keys of a Secret.
func (p *Pod) Secret(name, secret, target string, keys ...string) {
	p.mount(name, target, SecretVolume(secret, keys...))
}

// SecretVolume has some keys of a Secret, each as a file that its owner alone reads.
func SecretVolume(secret string, keys ...string) corev1.VolumeSource {
	items := make([]corev1.KeyToPath, 0, len(keys))
	for _, key := range keys {
		items = append(items, corev1.KeyToPath{Key: key, Path: key})
	}
	return corev1.VolumeSource{Secret: &corev1.SecretVolumeSource{SecretName: secret, Items: items, DefaultMode: ptr.To[int32](0o400)}}
}

// EmptyDir mounts a directory that lives as long as the pod.
func (p *Pod) EmptyDir(name, target string) {
	p.mount(name, target, corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}})
}

// Claim gives the daemon the device of a PersistentVolumeClaim.
func (p *Pod) Claim(name, claim, path string) {
	p.spec.Volumes = append(p.spec.Volumes, corev1.Volume{Name: name, VolumeSource: corev1.VolumeSource{
		PersistentVolumeClaim: &corev1.PersistentVolumeClaimVolumeSource{ClaimName: claim}}})
	p.devices = append(p.devices, corev1.VolumeDevice{Name: name, DevicePath: path})
}

func (p *Pod) mount(name, target string, source corev1.VolumeSource) {
	p.spec.Volumes = append(p.spec.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	p.mounts = append(p.mounts, corev1.VolumeMount{Name: name, MountPath: target})
}

// Init adds a container of some image that runs before the daemon. Each one
// costs about a second of every start of the pod.
func (p *Pod) Init(image, name string, command []string) {
	p.spec.InitContainers = append(p.spec.InitContainers, p.container(image, name, command, nil))
}

// Run sets the daemon's own container.
func (p *Pod) Run(command []string, resources corev1.ResourceRequirements, env ...corev1.EnvVar) {
	container := p.container(p.cluster.Spec.Ceph.Image, p.component, command, env)
	container.Resources, container.VolumeDevices, container.Lifecycle = resources, p.devices, p.lifecycle
	p.spec.Containers = []corev1.Container{container}
}

// Port of the daemon's container, which is alive while it accepts connections
// on the first of them.
func (p *Pod) Port(name string, port int32) {
	container := &p.spec.Containers[0]
	container.Ports = append(container.Ports, corev1.ContainerPort{Name: name, ContainerPort: port, Protocol: corev1.ProtocolTCP})
}

// podIP is the address that a daemon binds to.
var podIP = corev1.EnvVar{Name: "POD_IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: "status.podIP"}}}

func (p *Pod) container(image, name string, command []string, env []corev1.EnvVar) corev1.Container {
	return corev1.Container{
		Name: name, Image: image, ImagePullPolicy: p.cluster.Spec.Ceph.ImagePullPolicy,
		Command: command, Env: append(env, podIP), VolumeMounts: p.mounts,
		// Debian's osd_class_dir is relative to the working directory.
		WorkingDir:               "/",
		TerminationMessagePolicy: corev1.TerminationMessageFallbackToLogsOnError,
		SecurityContext:          p.security(),
	}
}

func (p *Pod) security() *corev1.SecurityContext {
	if p.privileged {
		return &corev1.SecurityContext{Privileged: ptr.To(true), RunAsUser: ptr.To[int64](0)}
	}
	return &corev1.SecurityContext{
		RunAsUser:                ptr.To[int64](0),
		AllowPrivilegeEscalation: ptr.To(false),
		Capabilities:             &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}},
		SeccompProfile:           &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
}

// Deployment runs the pod, one at a time: two daemons of one name must never
// be, so the old one is gone before the new one starts.
func (p *Pod) Deployment(name string) *appsv1.Deployment {
	labels := kube.Labels(p.cluster, p.component, p.instance)
	deployment := &appsv1.Deployment{
		ObjectMeta: kube.Meta(p.cluster, name, p.component, p.instance),
		Spec: appsv1.DeploymentSpec{
			Replicas:             ptr.To[int32](1),
			RevisionHistoryLimit: ptr.To[int32](2),
			Strategy:             appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType},
			Selector:             &metav1.LabelSelector{MatchLabels: labels},
			Template:             corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: p.spec},
		},
	}
	maps.Copy(deployment.Annotations, p.annotations)
	return deployment
}
