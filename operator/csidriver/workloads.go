package csidriver

import (
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/operator/kube"
)

// The directories of a node that the driver uses.
const (
	kubeletDir = "/var/lib/kubelet"
	stateDir   = "/var/lib/cairn/csi"
	systemdDir = "/run/systemd" // where its systemd, if it has one, says that the node is shut down
	dbusDir    = "/run/dbus"    // and its logind
	mountsDir  = "/run/mount"   // where systemd reads which mounts need the network
)

func (r *Reconciler) meta(name string) metav1.ObjectMeta {
	return metav1.ObjectMeta{Namespace: r.Namespace, Name: name, Labels: labels(name)}
}

func labels(name string) map[string]string {
	return map[string]string{kube.LabelManagedBy: kube.Manager, kube.LabelComponent: Component, kube.LabelInstance: name}
}

func csiDriver() *storagev1.CSIDriver {
	return &storagev1.CSIDriver{
		ObjectMeta: metav1.ObjectMeta{Name: BlockDriver, Labels: labels(BlockDriver)},
		Spec: storagev1.CSIDriverSpec{
			AttachRequired:       ptr.To(true),
			PodInfoOnMount:       ptr.To(false),
			StorageCapacity:      ptr.To(true),
			FSGroupPolicy:        ptr.To(storagev1.FileFSGroupPolicy),
			SELinuxMount:         ptr.To(true),
			VolumeLifecycleModes: []storagev1.VolumeLifecycleMode{storagev1.VolumeLifecyclePersistent},
		},
	}
}

// controller serves provisioning, attachment and expansion. One of its two
// replicas leads.
func (r *Reconciler) controller() *appsv1.Deployment {
	pod := r.pod(ControllerName, "controller")
	pod.Affinity = &corev1.Affinity{PodAntiAffinity: &corev1.PodAntiAffinity{
		PreferredDuringSchedulingIgnoredDuringExecution: []corev1.WeightedPodAffinityTerm{{Weight: 100, PodAffinityTerm: corev1.PodAffinityTerm{
			LabelSelector: &metav1.LabelSelector{MatchLabels: labels(ControllerName)}, TopologyKey: corev1.LabelHostname}}},
	}}
	container := &pod.Containers[0]
	probed(container, 9810)
	container.SecurityContext = &corev1.SecurityContext{
		RunAsNonRoot: ptr.To(true), RunAsUser: ptr.To[int64](65532), AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
	}
	mount(&pod, "tmp", "/tmp", corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}, nil)
	return &appsv1.Deployment{
		ObjectMeta: r.meta(ControllerName),
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](2), Selector: &metav1.LabelSelector{MatchLabels: labels(ControllerName)},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(ControllerName)}, Spec: pod},
		},
	}
}

// node is the plugin that the kubelet calls. It may restart at any time: what
// it attached is served by attach.
func (r *Reconciler) node() *appsv1.DaemonSet {
	pod := r.privileged(NodeName, "node")
	probed(&pod.Containers[0], 9811)
	hostPath(&pod, "kubelet", kubeletDir, corev1.HostPathDirectoryOrCreate, corev1.MountPropagationBidirectional)
	hostPath(&pod, "state", stateDir, corev1.HostPathDirectoryOrCreate, corev1.MountPropagationNone)
	hostPath(&pod, "mounts", mountsDir, corev1.HostPathDirectoryOrCreate, corev1.MountPropagationNone)
	return r.daemonSet(NodeName, pod, appsv1.RollingUpdateDaemonSetStrategyType)
}

// attach is the data path of the volumes that are attached in user space. While it
// is replaced their I/O waits; the next one goes on with what the keeper holds.
func (r *Reconciler) attach() *appsv1.DaemonSet {
	pod := r.privileged(AttachName, "attach")
	// Started again at once when it ends by itself: kubelet would take up to five minutes.
	pod.Containers[0].Command = []string{"cairn-keeper", "run", "cairn-csi", "attach"}
	// One that hangs is ended by its successor, which has to see it and its supervisor.
	pod.HostPID = true
	// Ready, but never killed by a probe: before Linux 6.9 that would end its volumes.
	pod.Containers[0].ReadinessProbe = probe("/readyz", 9812)
	// Without a request its share of the processor would be the smallest there is, and
	// every volume of the node waits for it.
	pod.Containers[0].Resources.Requests = corev1.ResourceList{corev1.ResourceCPU: resource.MustParse("200m"), corev1.ResourceMemory: resource.MustParse("128Mi")}
	// It writes back what is cached before it hands over.
	pod.TerminationGracePeriodSeconds = ptr.To[int64](300)
	hostPath(&pod, "state", stateDir, corev1.HostPathDirectoryOrCreate, corev1.MountPropagationNone)
	return r.daemonSet(AttachName, pod, appsv1.RollingUpdateDaemonSetStrategyType)
}

// keeper holds the descriptors of attached volumes while attach restarts. It is
// replaced only when its pod is deleted by hand, or with its node: not while
// attach is being replaced. It reaches no device and no network, and has no rights.
func (r *Reconciler) keeper() *appsv1.DaemonSet {
	pod := r.pod(AttachName, "keeper")
	pod.Containers[0].Command = []string{"cairn-keeper", "hold"}
	pod.HostNetwork = true // it starts before the node's pod network works
	pod.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	pod.PriorityClassName = "system-node-critical"
	pod.Containers[0].SecurityContext = &corev1.SecurityContext{
		AllowPrivilegeEscalation: ptr.To(false), ReadOnlyRootFilesystem: ptr.To(true),
		Capabilities: &corev1.Capabilities{Drop: []corev1.Capability{"ALL"}}, SeccompProfile: &corev1.SeccompProfile{Type: corev1.SeccompProfileTypeRuntimeDefault},
		// SELinux: its socket is on the node, and what it holds is a privileged pod's.
		SELinuxOptions: &corev1.SELinuxOptions{Type: "spc_t"},
	}
	hostPath(&pod, "keeper", stateDir+"/keeper", corev1.HostPathDirectoryOrCreate, corev1.MountPropagationNone)
	return r.daemonSet(KeeperName, pod, appsv1.OnDeleteDaemonSetStrategyType)
}

func (r *Reconciler) privileged(name, command string) corev1.PodSpec {
	pod := r.pod(name, command)
	pod.HostNetwork = true
	pod.DNSPolicy = corev1.DNSDefault
	pod.Tolerations = []corev1.Toleration{{Operator: corev1.TolerationOpExists}}
	pod.PriorityClassName = "system-node-critical"
	pod.Containers[0].SecurityContext = &corev1.SecurityContext{Privileged: ptr.To(true)}
	hostPath(&pod, "dev", "/dev", corev1.HostPathDirectory, corev1.MountPropagationNone)
	hostPath(&pod, "sys", "/sys", corev1.HostPathDirectory, corev1.MountPropagationNone)
	hostPath(&pod, "systemd", systemdDir, corev1.HostPathDirectoryOrCreate, corev1.MountPropagationNone)
	hostPath(&pod, "dbus", dbusDir, corev1.HostPathDirectoryOrCreate, corev1.MountPropagationNone)
	return pod
}

func (r *Reconciler) pod(account, command string) corev1.PodSpec {
	return corev1.PodSpec{
		ServiceAccountName: account,
		EnableServiceLinks: ptr.To(false),
		PriorityClassName:  "system-cluster-critical",
		Containers: []corev1.Container{{
			Name: command, Image: r.Image, ImagePullPolicy: corev1.PullIfNotPresent,
			Command: []string{"cairn-csi", command},
			Env: []corev1.EnvVar{
				fieldEnv("POD_NAMESPACE", "metadata.namespace"), fieldEnv("POD_NAME", "metadata.name"), fieldEnv("NODE_NAME", "spec.nodeName"),
				{Name: "MALLOC_ARENA_MAX", Value: "2"},
			},
		}},
	}
}

// probed lets the kubelet restart a container that no longer answers.
func probed(container *corev1.Container, port int32) {
	container.LivenessProbe = probe("/healthz", port)
	container.ReadinessProbe = probe("/readyz", port)
}

func probe(path string, port int32) *corev1.Probe {
	return &corev1.Probe{ProbeHandler: corev1.ProbeHandler{HTTPGet: &corev1.HTTPGetAction{Path: path, Port: intstr.FromInt32(port), Scheme: corev1.URISchemeHTTP}},
		PeriodSeconds: 5, TimeoutSeconds: 5}
}

func fieldEnv(name, path string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{APIVersion: "v1", FieldPath: path}}}
}

func hostPath(pod *corev1.PodSpec, name, path string, kind corev1.HostPathType, propagation corev1.MountPropagationMode) {
	mount(pod, name, path, corev1.VolumeSource{HostPath: &corev1.HostPathVolumeSource{Path: path, Type: &kind}}, &propagation)
}

func mount(pod *corev1.PodSpec, name, path string, source corev1.VolumeSource, propagation *corev1.MountPropagationMode) {
	pod.Volumes = append(pod.Volumes, corev1.Volume{Name: name, VolumeSource: source})
	container := &pod.Containers[0]
	container.VolumeMounts = append(container.VolumeMounts, corev1.VolumeMount{Name: name, MountPath: path, MountPropagation: propagation})
}

func (r *Reconciler) daemonSet(name string, pod corev1.PodSpec, strategy appsv1.DaemonSetUpdateStrategyType) *appsv1.DaemonSet {
	return &appsv1.DaemonSet{
		ObjectMeta: r.meta(name),
		Spec: appsv1.DaemonSetSpec{
			Selector:       &metav1.LabelSelector{MatchLabels: labels(name)},
			UpdateStrategy: appsv1.DaemonSetUpdateStrategy{Type: strategy},
			Template:       corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels(name)}, Spec: pod},
		},
	}
}
