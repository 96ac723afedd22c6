package simulation

import (
	"encoding/base64"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

// releases by their numbers.
var releases = map[int]string{16: "pacific", 17: "quincy", 18: "reef", 19: "squid", 20: "tentacle", 21: "umbrella"}

// Image says which version of Ceph is in an image. There are no other images.
func (w *World) Image(name, version string) { w.images[name] = version }

// Crash has the daemons of an image end as soon as they start, or run again.
func (w *World) Crash(image string, crashes bool) { w.crashes[image] = crashes }

// Restarts are the daemons that were replaced, in order: "mon-a 18.2.7 → 20.2.4".
func (w *World) Restarts() []string { return slices.Clone(w.restarts) }

// Wrong is what a real cluster would not have survived unharmed.
func (w *World) Wrong() []string { return slices.Clone(w.wrong) }

// started is the pod of a daemon, and the version of Ceph that it is of.
type started struct{ pod, version string }

// restart is a daemon whose pod was replaced.
type restart struct{ kind, name, node, from, to string }

func version(text string) upgrade.Version {
	v, _ := upgrade.Parse(text)
	return v
}

// restarted notices that a daemon's pod is another one.
func (w *World) restarted(d *appsv1.Deployment, pod *corev1.Pod, runs bool) []restart {
	before, now := w.runs[d.Name], started{pod.Name, w.images[pod.Spec.Containers[0].Image]}
	if !runs && before.pod == "" {
		return nil // it never ran
	}
	w.runs[d.Name] = now
	if before.pod == "" || before.pod == now.pod {
		return nil
	}
	r := restart{kind: d.Labels[kube.LabelComponent], node: pod.Spec.NodeName, from: before.version, to: now.version}
	r.name = r.kind + "-" + d.Labels[kube.LabelInstance]
	w.restarts = append(w.restarts, fmt.Sprintf("%s %s → %s", r.name, r.from, r.to))
	return []restart{r}
}

// forget what ran in Deployments that are no more.
func (w *World) forget(deployments []appsv1.Deployment) {
	maps.DeleteFunc(w.runs, func(name string, _ started) bool {
		return !slices.ContainsFunc(deployments, func(d appsv1.Deployment) bool { return d.Name == name })
	})
}

// judgeRestarts records what would have done harm in a real cluster, where a daemon takes
// its time to restart.
func (w *World) judgeRestarts(restarted []restart) {
	if w.Ceph == nil || len(restarted) == 0 {
		return
	}
	wrong := func(format string, args ...any) { w.wrong = append(w.wrong, fmt.Sprintf(format, args...)) }
	kinds, nodes, mons := map[string]bool{}, map[string]bool{}, slices.Clone(w.quorum)
	for _, r := range restarted {
		changed := r.from != r.to
		kinds[r.kind] = kinds[r.kind] || changed
		if r.kind == "osd" {
			nodes[r.node] = true
		}
		mons = slices.DeleteFunc(mons, func(name string) bool { return "mon-"+name == r.name })
		switch {
		case r.kind != "mgr" && version(r.to).Release > 0 && version(r.to).Release < version(r.from).Release:
			wrong("%s went back from %s to %s", r.name, r.from, r.to)
		case r.kind == "mon" && changed && !w.ran("mgr", r.to):
			wrong("%s got %s before any mgr", r.name, r.to)
		case r.kind == "osd" && version(r.to).Release > w.oldest("mon"):
			wrong("%s got %s before all mons", r.name, r.to)
		}
	}
	if 2*len(mons) <= len(w.monmap) {
		wrong("%d of %d mons are left while others restart", len(mons), len(w.monmap))
	}
	if len(nodes) > 1 {
		wrong("OSDs of %d nodes restart together", len(nodes))
	}
	if kinds["mon"] && kinds["osd"] {
		wrong("mons and OSDs restart together")
	}
}

// ran reports whether a daemon of a kind has a version.
func (w *World) ran(kind, text string) bool {
	for name, s := range w.runs {
		if strings.Contains(name, "-"+kind+"-") && s.version == text {
			return true
		}
	}
	return false
}

// oldest release that a daemon of a kind runs.
func (w *World) oldest(kind string) int {
	oldest := 99
	for name, s := range w.runs {
		if strings.Contains(name, "-"+kind+"-") {
			oldest = min(oldest, version(s.version).Release)
		}
	}
	return oldest
}

// setVersions has Ceph know what the running daemons are of. Once all mons are of
// a release they agree on it.
func (w *World) setVersions(pods []corev1.Pod) {
	var mons []*corev1.Pod
	for i := range pods {
		kind := pods[i].Labels[kube.LabelComponent]
		w.Ceph.SetVersion(kind+"."+pods[i].Labels[kube.LabelInstance], w.images[pods[i].Spec.Containers[0].Image])
		if kind == "mon" {
			mons = append(mons, &pods[i])
		}
	}
	seen, err := w.conn().Releases(w.context())
	require.NoError(w.t, err)
	if release := w.releaseOf(mons); len(mons) == len(w.monmap) && release > ceph.ReleaseNumber(seen.Mons) {
		w.Ceph.SetReleases(releases[release], seen.OSDs)
	}
	if required := ceph.ReleaseNumber(seen.OSDs); w.oldest("osd") < required {
		w.wrong = append(w.wrong, fmt.Sprintf("the OSD map requires %s, and an OSD runs release %d", seen.OSDs, w.oldest("osd")))
	}
}

func (w *World) conn() ceph.Conn {
	conn, err := w.Ceph.Connect(w.context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(w.t, err)
	return conn
}

// releaseOf is the oldest release of pods.
func (w *World) releaseOf(pods []*corev1.Pod) int {
	oldest := 99
	for _, pod := range pods {
		oldest = min(oldest, version(w.images[pod.Spec.Containers[0].Image]).Release)
	}
	return oldest
}

// readable requires that a daemon's release knows the type of a key.
func (w *World) readable(daemon string, key []byte, pod *corev1.Pod) {
	raw, err := base64.StdEncoding.DecodeString(string(key))
	require.NoError(w.t, err)
	if w.releaseOf([]*corev1.Pod{pod}) < 20 {
		require.EqualValues(w.t, 1, raw[0], "%s is of a release that does not know keys of type aes256k", daemon)
	}
}

// cannotRun says why a pod's image does not run.
func (w *World) cannotRun(pod *corev1.Pod) *corev1.ContainerStateWaiting {
	image := pod.Spec.Containers[0].Image
	switch {
	case w.images[image] == "":
		return &corev1.ContainerStateWaiting{Reason: "ErrImagePull", Message: "failed to pull " + image + ": not found"}
	case pod.Labels[kube.LabelComponent] == "mon" && w.stores[storeOf(pod)] == nil && w.needsStore(pod):
		return &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
	case w.crashes[image] && pod.Labels[kube.LabelComponent] != upgrade.Component:
		return &corev1.ContainerStateWaiting{Reason: "CrashLoopBackOff"}
	}
	return nil
}

func (w *World) setStatus(pod *corev1.Pod, phase corev1.PodPhase, state corev1.ContainerState) {
	if pod.Status.Phase == phase && len(pod.Status.ContainerStatuses) > 0 {
		return
	}
	container := pod.Spec.Containers[0]
	pod.Status.Phase = phase
	pod.Status.ContainerStatuses = []corev1.ContainerStatus{{Name: container.Name, Image: container.Image, State: state}}
	require.NoError(w.t, w.Client.Status().Update(w.context(), pod))
}

// Lacks has an image not know an option of Ceph.
func (w *World) Lacks(image, option string) { w.lacks = map[string]string{image: option} }

// unknown is what an image's pod says of an option that it is asked for and does not know.
func (w *World) unknown(pod *corev1.Pod) string {
	lacks := w.lacks[pod.Spec.Containers[0].Image]
	if lacks == "" || !slices.Contains(pod.Spec.Containers[0].Command, lacks) {
		return ""
	}
	return "unknown option: " + lacks + "\n"
}

// answer has the pods end that ask an image for its version.
func (w *World) answer() {
	var pods corev1.PodList
	require.NoError(w.t, w.Client.List(w.context(), &pods, client.InNamespace(w.Namespace), client.MatchingLabels{kube.LabelComponent: upgrade.Component}))
	for i := range pods.Items {
		pod := &pods.Items[i]
		if why := w.cannotRun(pod); why != nil {
			w.setStatus(pod, corev1.PodPending, corev1.ContainerState{Waiting: why})
			continue
		}
		v := w.images[pod.Spec.Containers[0].Image]
		w.setStatus(pod, corev1.PodSucceeded, corev1.ContainerState{Terminated: &corev1.ContainerStateTerminated{
			Message: fmt.Sprintf("ceph version %s (0123abcd) %s (stable)\n", v, releases[version(v).Release]) + w.unknown(pod)}})
	}
}
