package simulation

import (
	"cmp"
	"maps"
	"slices"
	"strconv"
	"strings"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

const diskSize = 10 << 30

// daemons is what the Ceph in the running pods does.
func (w *World) daemons(pods []corev1.Pod) {
	of := map[string][]*corev1.Pod{}
	for i := range pods {
		component := pods[i].Labels[kube.LabelComponent]
		of[component] = append(of[component], &pods[i])
	}
	w.mons(of["mon"])
	if w.Ceph == nil {
		return
	}
	w.mgrs(of["mgr"])
	active := ""
	if len(of["mgr"]) > 0 {
		active = of["mgr"][0].Labels[kube.LabelInstance]
	}
	w.Ceph.SetMgr(active, max(0, len(of["mgr"])-1))
	w.setVersions(pods)
	up := map[int]bool{}
	w.epoch++
	for _, pod := range of["osd"] {
		if w.hasQuorum() && !w.disk(pod).failed && !w.notPrepared(pod) && w.database(pod) {
			up[w.osd(pod)] = true
			w.disk(pod).epoch = w.epoch
		}
	}
	for _, d := range w.disks {
		if d.uuid != "" && !up[d.id] {
			w.Ceph.Down(d.id)
		}
	}
}

// notPrepared reports whether a disk that was put in place of an OSD's is refused, as cairn-daemon does.
func (w *World) notPrepared(pod *corev1.Pod) bool {
	var secret corev1.Secret
	d := w.disk(pod)
	return d.exchanged && d.uuid == "" && w.has(&secret, pod.Spec.Containers[0].Env[0].ValueFrom.SecretKeyRef.Name) && string(secret.Data["formatted"]) == "true"
}

// osd prepares the device of an OSD's pod as cairn-daemon does, and starts it.
func (w *World) osd(pod *corev1.Pod) int {
	args := pod.Spec.Containers[0].Command
	uuid, device := flag(args, "--uuid"), flag(args, "--device")
	id, err := strconv.Atoi(flag(args, "--id"))
	require.NoError(w.t, err)
	var secret corev1.Secret
	require.True(w.t, w.has(&secret, pod.Spec.Containers[0].Env[0].ValueFrom.SecretKeyRef.Name))
	w.known(uuid, id)
	w.enter("osd."+flag(args, "--id"), pod)

	d := w.disk(pod)
	if d.uuid == "" {
		require.Equal(w.t, "false", string(secret.Data["formatted"]), "osd.%d has been up: its disk must not be formatted again", id)
		d.uuid, d.fsid, d.id, d.key = uuid, w.fsid, id, keyOf(args, &secret)
		w.reportDisk(d)
	}
	require.Equal(w.t, d.uuid, uuid, "%s of %s holds another OSD already", device, pod.Spec.NodeName)
	require.Equal(w.t, d.key, keyOf(args, &secret), "%s of %s has another key", device, pod.Spec.NodeName)
	size := int64(diskSize)
	if w.dbDisk(pod) != nil {
		size *= 2
	}
	if d.grown {
		size *= 2
	}
	weight, err := strconv.ParseFloat(cmp.Or(flag(args, "--osd-crush-initial-weight"), "0"), 64)
	require.NoError(w.t, err)
	w.Ceph.Boot(id, hostIn(pod, &secret), size, weight)
	return id
}

// keyOf an OSD's device; empty for one that is not to be encrypted.
func keyOf(args []string, secret *corev1.Secret) string {
	if flag(args, "--encryption-key") == "" {
		return ""
	}
	return string(secret.Data["encryption-key"])
}

// dbDisk that an OSD's pod has its database on; nil is its own.
func (w *World) dbDisk(pod *corev1.Pod) *disk {
	device := flag(pod.Spec.Containers[0].Command, "--db-device")
	return w.disks[pod.Spec.NodeName+"/"+strings.TrimPrefix(device, "/dev/disk/by-id/")]
}

// database makes an OSD's database on a blank device, with the OSD, and reports whether
// the OSD has it, or needs none.
func (w *World) database(pod *corev1.Pod) bool {
	args := pod.Spec.Containers[0].Command
	uuid, d, db := flag(args, "--uuid"), w.disk(pod), w.dbDisk(pod)
	if db == nil {
		return flag(args, "--db-device") == ""
	}
	if d.uuid == "" && db.uuid == "" && db.dbOf == "" {
		db.dbOf = uuid
		w.report(db.node)
	}
	return !db.failed && db.dbOf == uuid
}

// Databases are the devices that hold one: node/device → UUID of its OSD.
func (w *World) Databases() map[string]string {
	found := map[string]string{}
	for at, d := range w.disks {
		if d.dbOf != "" {
			found[at] = d.dbOf
		}
	}
	return found
}

// disk that an OSD's pod is for.
func (w *World) disk(pod *corev1.Pod) *disk {
	device := flag(pod.Spec.Containers[0].Command, "--device")
	if claim := flag(pod.Spec.Containers[0].Command, "--claim"); claim != "" {
		return w.disks[claimed+"/"+claim]
	}
	d := w.disks[pod.Spec.NodeName+"/"+strings.TrimPrefix(device, "/dev/disk/by-id/")]
	require.NotNil(w.t, d, "an OSD is started on %s of %s, which does not exist", device, pod.Spec.NodeName)
	return d
}

// Fail makes a disk neither shown nor readable, Heal as it was.
func (w *World) Fail(node, device string) { w.setFailed(node, device, true) }

// Grow makes a disk twice as large, which its OSD uses at once.
func (w *World) Grow(node, device string) {
	w.disks[node+"/"+device].grown = true
	w.report(node)
}

// Heal makes a disk that failed as it was.
func (w *World) Heal(node, device string) { w.setFailed(node, device, false) }

func (w *World) setFailed(node, device string, failed bool) {
	w.disks[node+"/"+device].failed = failed
	w.report(node)
}

// Plug gives a node a blank disk, in place of one of that name.
func (w *World) Plug(node, device string) {
	before := w.disks[node+"/"+device]
	w.disks[node+"/"+device] = &disk{node: node, name: device, exchanged: before != nil}
	if before != nil && before.uuid != "" {
		w.Ceph.Down(before.id)
	}
	w.report(node)
}

// number gives OSDs the IDs of their disks' order: by name, then by node.
func (w *World) number(uuid string) int {
	disks := slices.SortedFunc(maps.Values(w.disks), func(a, b *disk) int {
		return cmp.Or(strings.Compare(a.name, b.name), strings.Compare(a.node, b.node))
	})
	return slices.IndexFunc(disks, func(d *disk) bool {
		return d.claim == "" && osd.UUID(w.fsid, d.node, d.name) == uuid || d.claim != "" && osd.ClaimUUID(w.fsid, d.claim) == uuid
	})
}

// Move has a person put a disk into another node, under its name there.
func (w *World) Move(node, device, to, as string) {
	moved := w.disks[node+"/"+device]
	w.disks[node+"/"+device] = &disk{node: node, name: device, failed: true} // nothing is there
	moved.node, moved.name = to, as
	w.disks[to+"/"+as] = moved
	w.report(node)
	w.report(to)
}

// known checks that Ceph knows an OSD.
func (w *World) known(uuid string, id int) {
	conn, err := w.Ceph.Connect(w.context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(w.t, err)
	osds, err := conn.OSDs(w.context())
	require.NoError(w.t, err)
	require.True(w.t, slices.ContainsFunc(osds, func(o ceph.OSD) bool { return o.ID == id && o.UUID == uuid }), "Ceph does not know osd.%d with UUID %s", id, uuid)
}

// Secret of the world's namespace.
func (w *World) Secret(name string) *corev1.Secret {
	var secret corev1.Secret
	require.NoError(w.t, w.Client.Get(w.context(), client.ObjectKey{Namespace: w.Namespace, Name: name}, &secret))
	return &secret
}

func value(env []corev1.EnvVar, name string) string {
	for _, e := range env {
		if e.Name == name {
			return e.Value
		}
	}
	return ""
}

func flag(args []string, name string) string {
	at := slices.Index(args, name)
	if at < 0 || at+1 >= len(args) {
		return ""
	}
	return args[at+1]
}
