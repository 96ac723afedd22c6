package osd

import (
	"fmt"
	"maps"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/daemonpod"
	"github.com/cairn-storage/cairn/operator/kube"
)

// DeploymentName of an OSD.
func DeploymentName(cluster *v1alpha1.StorageCluster, id int) string {
	return fmt.Sprintf("%s-osd-%d", cluster.Name, id)
}

// SecretName of the Secret with an OSD's key. It exists before the OSD has an ID.
func SecretName(cluster *v1alpha1.StorageCluster, uuid string) string {
	return fmt.Sprintf("%s-osd-%s", cluster.Name, uuid[:13])
}

// keyFormatted of an OSD's Secret is "true" once the OSD has been up: from then
// on its device is only ever activated, never formatted, so that a blank disk
// that turns up under its name is not taken for it.
const keyFormatted = "formatted"

// keyLocation of an OSD's Secret is where an OSD on a claim is in the CRUSH map. That may be
// known only when its pod was given a node: the pod waits for it.
const keyLocation = "location"

// Formatted reports whether an OSD has ever been up.
func Formatted(secret *corev1.Secret) bool {
	return secret != nil && string(secret.Data[keyFormatted]) == "true"
}

// Secret holds an OSD's key, and its keyring once the OSD has an ID. It stays
// when the cluster is deleted, as its data does.
func Secret(cluster *v1alpha1.StorageCluster, t Target, key ceph.Key, id int, formatted bool) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: kube.Kept(cluster, SecretName(cluster, t.UUID), Component, ""),
		Type:       "cairn.storage/osd",
		Data:       map[string][]byte{"key": []byte(key.Reveal()), keyFormatted: []byte(strconv.FormatBool(formatted))},
	}
	t.annotate(func(key, value string) { secret.Annotations[key] = value })
	if t.Node != "" {
		secret.Annotations[kube.AnnotationNode] = t.Node
	}
	if t.DB != "" {
		secret.Annotations[kube.AnnotationDB] = t.DB
	}
	if t.Location != "" {
		secret.Data[keyLocation] = []byte(t.Location)
	}
	if id >= 0 {
		secret.Data["keyring"] = []byte(fmt.Sprintf("[osd.%d]\nkey = %s\n", id, key.Reveal()))
	}
	return secret
}

// ID that an OSD's Secret gives it; false while there is none.
func ID(secret *corev1.Secret) (int, bool) {
	if secret == nil {
		return 0, false
	}
	var id int
	_, err := fmt.Sscanf(string(secret.Data["keyring"]), "[osd.%d]", &id)
	return id, err == nil
}

// TargetOf reads from an OSD's Secret or Deployment which device it is for.
func TargetOf(object client.Object) Target {
	annotations := object.GetAnnotations()
	t := Target{Encrypted: annotations[kube.AnnotationEncrypted] != "", UUID: annotations[kube.AnnotationUUID], Node: annotations[kube.AnnotationNode], Device: annotations[kube.AnnotationDevice],
		DB: annotations[kube.AnnotationDB], Claim: annotations[kube.AnnotationClaim]}
	if secret, ok := object.(*corev1.Secret); ok && secret != nil {
		t.Location, t.Encrypted = string(secret.Data[keyLocation]), len(EncryptionKey(secret)) > 0
	}
	return t
}

// annotate an object with which device it is for.
func (t Target) annotate(with func(key, value string)) {
	with(kube.AnnotationUUID, t.UUID)
	if t.Claim != "" {
		with(kube.AnnotationClaim, t.Claim)
		return
	}
	with(kube.AnnotationDevice, t.Device)
	with(kube.AnnotationNode, t.Node)
}

// WithoutID is an OSD's Secret as it was before the OSD had an ID.
func WithoutID(secret *corev1.Secret) *corev1.Secret {
	without := &corev1.Secret{Type: secret.Type, Data: maps.Clone(secret.Data), ObjectMeta: metav1.ObjectMeta{
		Namespace: secret.Namespace, Name: secret.Name, Labels: maps.Clone(secret.Labels), Annotations: maps.Clone(secret.Annotations)}}
	maps.DeleteFunc(without.Data, func(item string, _ []byte) bool { return strings.HasPrefix(item, "keyring") })
	delete(without.Annotations, kube.AnnotationApplied)
	return without
}

// Deployment runs one OSD on its device. helper is Cairn's own image, which
// prepares the device with the Ceph of the OSD's image.
func Deployment(cluster *v1alpha1.StorageCluster, fsid, helper string, t Target, id int, node *corev1.Node) *appsv1.Deployment {
	const data = "/var/lib/ceph/osd"
	pod := daemonpod.New(cluster, Component, strconv.Itoa(id))
	pod.Privileged()
	env, location := []corev1.EnvVar{fromSecret(cluster, t, "FORMATTED", keyFormatted)}, "$(LOCATION)"
	prepare := []string{"/cairn/cairn-daemon", "osd", "run", "--device", t.Path()}
	if t.Claim != "" {
		pod.Claim("claim", t.Claim, t.Path())
		pod.SpreadEvenly()
		pod.Secret("keyring", SecretName(cluster, t.UUID), "/run/keyring", "keyring", keyLocation)
		prepare, env = append(prepare, "--claim", t.Claim), append(env, fromSecret(cluster, t, "LOCATION", keyLocation))
	} else {
		pod.OnNode(t.Node)
		pod.HostPath("dev", "/dev", "/dev", corev1.HostPathDirectory)
		pod.HostPath("udev", "/run/udev", "/run/udev", corev1.HostPathUnset)
		pod.Secret("keyring", SecretName(cluster, t.UUID), "/run/keyring", "keyring")
		location = Location(node)
	}
	pod.EmptyDir("data", data)
	pod.EmptyDir("cairn", "/cairn")
	t.annotate(pod.Annotate)
	pod.Init(helper, "install", []string{"cairn-daemon", "install", "/cairn"})
	if t.Encrypted {
		pod.Secret("encryption", SecretName(cluster, t.UUID), "/run/encryption", keyEncryption)
		pod.Annotate(kube.AnnotationEncrypted, "true")
		prepare = append(prepare, "--encryption-key", EncryptionFile("/run/encryption"))
	}
	if t.DB != "" {
		pod.Annotate(kube.AnnotationDB, t.DB)
		prepare = append(prepare, "--db-device", t.DBPath())
	}
	command := append(prepare, "--id", strconv.Itoa(id),
		"--uuid", t.UUID, "--fsid", fsid, "--data-dir", data, "--keyring", "/run/keyring/keyring", "--activate-only=$(FORMATTED)",
		"--", "ceph-osd", "-f", "-i", strconv.Itoa(id), "--osd-data", data,
		"--public-addr", "$(POD_IP)", "--cluster-addr", "$(POD_IP)", "--crush-location", location)
	if t.InitialWeight != "" {
		command = append(command, flagWeight, t.InitialWeight)
	}
	pod.Run(command, cluster.Spec.Resources.OSD, env...)
	deployment := pod.Deployment(DeploymentName(cluster, id))
	if t.Size != "" {
		deployment.Spec.Template.Annotations = map[string]string{kube.AnnotationClaimSize: t.Size}
	}
	return deployment
}

// fromSecret has a variable be what an OSD's Secret has under a key.
func fromSecret(cluster *v1alpha1.StorageCluster, t Target, name, key string) corev1.EnvVar {
	return corev1.EnvVar{Name: name, ValueFrom: &corev1.EnvVarSource{SecretKeyRef: &corev1.SecretKeySelector{
		LocalObjectReference: corev1.LocalObjectReference{Name: SecretName(cluster, t.UUID)}, Key: key}}}
}

// Place of an OSD's Deployment: those of one place restart together.
func Place(d *appsv1.Deployment) string {
	if claim := d.Annotations[kube.AnnotationClaim]; claim != "" {
		return claim
	}
	return d.Annotations[kube.AnnotationNode]
}

// Location of a node's OSDs in the CRUSH map, from the node's topology labels.
func Location(node *corev1.Node) string {
	return "root=default " + ceph.Location(node.Name, node.Labels)
}

// Moves reports whether an OSD that restarts as wanted is elsewhere in the CRUSH map.
func Moves(live, wanted *appsv1.Deployment) bool { return locationOf(live) != locationOf(wanted) }

// locationOf is the location that an OSD's Deployment starts it with.
func locationOf(d *appsv1.Deployment) string {
	command := d.Spec.Template.Spec.Containers[0].Command
	if at := slices.Index(command, "--crush-location"); at >= 0 && at+1 < len(command) {
		return command[at+1]
	}
	return ""
}
