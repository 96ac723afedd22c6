package kube_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/util/intstr"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/tests/controlplane"
)

func TestMain(m *testing.M) { controlplane.Main(m) }

func deployment(name string) *appsv1.Deployment {
	labels := map[string]string{"app": name}
	return &appsv1.Deployment{
		ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name, Labels: labels, Annotations: map[string]string{"kept": "yes"}},
		Spec: appsv1.DeploymentSpec{
			Replicas: ptr.To[int32](1), Strategy: appsv1.DeploymentStrategy{Type: appsv1.RecreateDeploymentStrategyType}, Selector: &metav1.LabelSelector{MatchLabels: labels},
			Template: corev1.PodTemplateSpec{ObjectMeta: metav1.ObjectMeta{Labels: labels}, Spec: corev1.PodSpec{
				NodeSelector: map[string]string{"disk": "fast"},
				Tolerations:  []corev1.Toleration{{Key: "storage", Operator: corev1.TolerationOpExists}},
				Containers: []corev1.Container{{
					Name: "daemon", Image: "ceph:test", Command: []string{"ceph-osd", "-f"},
					Env: []corev1.EnvVar{{Name: "ID", Value: "0"}, {Name: "IP", ValueFrom: &corev1.EnvVarSource{FieldRef: &corev1.ObjectFieldSelector{FieldPath: "status.podIP"}}}},
					// The server writes both back in their canonical form.
					Resources:    corev1.ResourceRequirements{Requests: corev1.ResourceList{"cpu": resource.MustParse("1000m"), "memory": resource.MustParse("4096Mi")}},
					Ports:        []corev1.ContainerPort{{Name: "msgr2", ContainerPort: 3300}},
					VolumeMounts: []corev1.VolumeMount{{Name: "data", MountPath: "/data"}, {Name: "data", MountPath: "/more", SubPath: "more"}},
				}},
				Volumes: []corev1.Volume{{Name: "data", VolumeSource: corev1.VolumeSource{EmptyDir: &corev1.EmptyDirVolumeSource{}}}},
			}},
		},
	}
}

func service(name string) *corev1.Service {
	return &corev1.Service{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: name}, Spec: corev1.ServiceSpec{
		Selector: map[string]string{"app": name}, Ports: []corev1.ServicePort{{Name: "msgr2", Port: 3300, TargetPort: intstr.FromInt32(3300)}}}}
}

func TestWhatWasAppliedDoesNotDifferAfterTheServersDefaulting(t *testing.T) {
	_, c := controlplane.Start(t)
	for name, test := range map[string]struct{ want, live client.Object }{
		"a Deployment": {deployment("same"), &appsv1.Deployment{}},
		"a Service":    {service("same"), &corev1.Service{}},
		"a Secret":     {&corev1.Secret{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "same"}, Data: map[string][]byte{"key": []byte("x")}}, &corev1.Secret{}},
		"a ConfigMap":  {&corev1.ConfigMap{ObjectMeta: metav1.ObjectMeta{Namespace: "default", Name: "same"}, Data: map[string]string{"a": ""}}, &corev1.ConfigMap{}},
	} {
		t.Run(name, func(t *testing.T) {
			require.NoError(t, kube.Apply(t.Context(), c, test.want))
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(test.want), test.live))
			differs, err := kube.Differs(test.live, test.want)
			require.NoError(t, err)
			require.False(t, differs)
		})
	}
}

func TestDriftIsSeenAndMended(t *testing.T) {
	for name, drift := range map[string]func(live *appsv1.Deployment){
		"an image":  func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Image = "other" },
		"a command": func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Command = []string{"sleep", "1"} },
		"a longer command": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Command = []string{"ceph-osd", "-f", "-d"}
		},
		"a variable": func(d *appsv1.Deployment) { d.Spec.Template.Spec.Containers[0].Env[0].Value = "1" },
		"a variable less": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Env = d.Spec.Template.Spec.Containers[0].Env[1:]
		},
		"a resource": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Resources.Requests["cpu"] = resource.MustParse("2")
		},
		"the replicas":  func(d *appsv1.Deployment) { d.Spec.Replicas = ptr.To[int32](0) },
		"an annotation": func(d *appsv1.Deployment) { d.Annotations["kept"] = "no" },
		"a toleration more": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Tolerations = append(d.Spec.Template.Spec.Tolerations, corev1.Toleration{Operator: corev1.TolerationOpExists})
		},
		"the node that it is on": func(d *appsv1.Deployment) { d.Spec.Template.Spec.NodeSelector["disk"] = "slow" },
	} {
		t.Run(name, func(t *testing.T) {
			_, c := controlplane.Start(t)
			require.NoError(t, kube.Apply(t.Context(), c, deployment("drift")))
			live := &appsv1.Deployment{}
			require.NoError(t, c.Get(t.Context(), client.ObjectKey{Namespace: "default", Name: "drift"}, live))
			drift(live)
			require.NoError(t, c.Update(t.Context(), live))
			require.True(t, differs(t, c, deployment("drift")))
			require.NoError(t, kube.Apply(t.Context(), c, deployment("drift")))
			require.False(t, differs(t, c, deployment("drift")))
		})
	}
}

func differs(t *testing.T, c client.Client, want *appsv1.Deployment) bool {
	live := &appsv1.Deployment{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(want), live))
	found, err := kube.Differs(live, want)
	require.NoError(t, err)
	return found
}

func TestAFieldThatIsNoLongerWantedIsRemoved(t *testing.T) {
	_, c := controlplane.Start(t)
	require.NoError(t, kube.Apply(t.Context(), c, deployment("less")))
	want := deployment("less")
	want.Spec.Template.Spec.NodeSelector = nil
	require.True(t, differs(t, c, want))
	require.NoError(t, kube.Apply(t.Context(), c, want))
	require.False(t, differs(t, c, want))
	live := &appsv1.Deployment{}
	require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(want), live))
	require.Empty(t, live.Spec.Template.Spec.NodeSelector)
}

// Server-side apply leaves to others what they added: an operator that took
// that for drift would write for ever.
func TestWhatOthersAddIsNotFoughtOver(t *testing.T) {
	for name, add := range map[string]func(live *appsv1.Deployment){
		"an annotation": func(d *appsv1.Deployment) { d.Annotations["theirs"] = "x" },
		"a variable": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers[0].Env = append(d.Spec.Template.Spec.Containers[0].Env, corev1.EnvVar{Name: "THEIRS"})
		},
		"a sidecar": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Containers = append([]corev1.Container{{Name: "theirs", Image: "x"}}, d.Spec.Template.Spec.Containers...)
		},
		"a volume": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.Volumes = append(d.Spec.Template.Spec.Volumes, corev1.Volume{Name: "theirs"})
		},
		"an init container": func(d *appsv1.Deployment) {
			d.Spec.Template.Spec.InitContainers = []corev1.Container{{Name: "theirs", Image: "x"}}
		},
	} {
		t.Run(name, func(t *testing.T) {
			_, c := controlplane.Start(t)
			want := deployment("others")
			require.NoError(t, client.IgnoreNotFound(c.Delete(t.Context(), want.DeepCopy())))
			require.NoError(t, kube.Apply(t.Context(), c, want))
			live := &appsv1.Deployment{}
			require.NoError(t, c.Get(t.Context(), client.ObjectKeyFromObject(want), live))
			add(live)
			require.NoError(t, c.Update(t.Context(), live, client.FieldOwner("other")))
			require.False(t, differs(t, c, want))
		})
	}
}
