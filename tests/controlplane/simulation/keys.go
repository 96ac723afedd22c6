package simulation

import (
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
)

// found has Ceph know the users that a cluster begins with.
func (w *World) found(keys *corev1.Secret) {
	for _, entity := range []string{"client.admin", "mgr.a", "mgr.b"} {
		w.Ceph.AddUser(entity, ceph.Key(keys.Data[entity]), nil)
	}
}

// keysOf the users in a keyring.
func keysOf(keyring []byte) map[string]ceph.Key {
	keys, entity := map[string]ceph.Key{}, ""
	for line := range strings.Lines(string(keyring)) {
		if name, ok := strings.CutPrefix(line, "["); ok {
			entity, _, _ = strings.Cut(name, "]")
		} else if key, ok := strings.CutPrefix(line, "key = "); ok {
			keys[entity] = ceph.Key(strings.TrimSpace(key))
		}
	}
	return keys
}

// enter has a daemon whose pod is new log in with the key that the pod got. One that goes
// on needs no key.
func (w *World) enter(entity string, pod *corev1.Pod) {
	if w.entered[pod.Name] {
		return
	}
	w.entered[pod.Name] = true
	for _, volume := range pod.Spec.Volumes {
		if volume.Name != "keyring" || volume.Secret == nil {
			continue
		}
		_, text, _ := strings.Cut(string(w.Secret(volume.Secret.SecretName).Data[volume.Secret.Items[0].Key]), "key = ")
		key, _, _ := strings.Cut(text, "\n")
		w.readable(entity, []byte(key), pod)
		// A daemon that begins with a key that is still pending ends by itself.
		if w.Ceph.Key(entity) != ceph.Key(key) {
			w.violated("%s was started with a key that Ceph does not take, or takes beside another", entity)
		}
	}
}

// mgrs log in.
func (w *World) mgrs(pods []*corev1.Pod) {
	for _, pod := range pods {
		w.enter("mgr."+pod.Labels[kube.LabelInstance], pod)
	}
}
