package simulation

import (
	"cmp"
	"maps"
	"slices"
	"strings"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/operator/kube"
)

// store is what a mon keeps on its node: the cluster that it is of, and the monmap
// that it knows.
type store struct {
	fsid  string
	epoch int // of the monmap; 0 before the mon was in a quorum
	mons  []string
	kept  bool   // copied before it was operated on
	maxID uint64 // up to which clients may have been given IDs; 0 is not known yet
	// address that the mon has in the monmap.
	address string
}

func storeOf(pod *corev1.Pod) string {
	return pod.Spec.NodeName + "/" + pod.Labels[kube.LabelInstance]
}

// needsStore reports whether a mon does not run without its store.
func (w *World) needsStore(pod *corev1.Pod) bool {
	joined := w.Secret(pod.Labels[kube.LabelCluster] + "-bootstrap").Data["joined"]
	return slices.Contains(strings.Fields(string(joined)), pod.Labels[kube.LabelInstance])
}

// hasStore makes a mon's store where there is none, as ceph-mon does, and reports
// whether the mon runs: not where a store must have been there.
func (w *World) hasStore(pod *corev1.Pod) bool {
	at, env := storeOf(pod), pod.Spec.Containers[0].Env
	fsid := value(env, "FSID")
	if w.stores[at] == nil {
		if w.needsStore(pod) {
			return false
		}
		if w.Ceph != nil && !w.hasQuorum() {
			w.violated("mon %s began anew, without a quorum to learn from, though the cluster has data", at)
		}
		w.stores[at] = &store{fsid: fsid, mons: foundersOf(value(env, "ADDV")), address: value(env, "ADDRESS")}
	}
	if s := w.stores[at]; s.address != value(env, "ADDRESS") {
		w.violated("mon %s was started at the address %q, and has %q in the monmap", at, value(env, "ADDRESS"), s.address)
	}
	if w.stores[at].fsid != fsid {
		w.violated("mon %s of cluster %s was started on the store of cluster %s", at, fsid, w.stores[at].fsid)
	}
	return true
}

// foundersOf are the mons that monmaptool is given: "--addv a ADDRESS --addv b ADDRESS".
func foundersOf(addv string) (names []string) {
	words := strings.Fields(addv)
	for i := 0; i+1 < len(words); i++ {
		if words[i] == "--addv" {
			names = append(names, words[i+1])
		}
	}
	return names
}

// mons found the cluster once a majority of the founders runs, and go on while a
// majority of the monmap that they know does.
func (w *World) mons(pods []*corev1.Pod) {
	w.commit()
	pods = slices.DeleteFunc(pods, func(pod *corev1.Pod) bool { return !w.hasStore(pod) || w.removed[pod.Labels[kube.LabelInstance]] })
	running := map[string]*store{}
	for _, pod := range pods {
		s := w.stores[storeOf(pod)]
		w.fsid = cmp.Or(w.fsid, s.fsid)
		require.Equal(w.t, w.fsid, value(pod.Spec.Containers[0].Env, "FSID"), "mon %s was given another cluster's fsid", pod.Labels[kube.LabelInstance])
		running[pod.Labels[kube.LabelInstance]] = s
	}
	w.quorum = slices.Sorted(maps.Keys(running))
	newest, agreed := elect(running)
	if w.quorate = newest != nil; w.quorate {
		w.refuseSecond(running, newest, agreed)
		w.join(running, newest, agreed)
		if w.Ceph == nil {
			w.Ceph = model.New(w.fsid, w.quorum...)
			w.givers, w.given, w.maxID = map[string]*giver{}, map[uint64]string{}, 0
			w.Ceph.Number = w.number
			release := releases[w.releaseOf(pods)]
			w.Ceph.SetReleases(release, release)
			w.found(w.Secret(pods[0].Labels[kube.LabelCluster] + "-keys"))
			w.readable("mon.a", w.Secret(pods[0].Labels[kube.LabelCluster] + "-keys").Data["mon"], pods[0])
		}
	}
	if w.Ceph != nil {
		w.Ceph.SetQuorum(slices.Clone(w.monmap), w.quorum)
	}
	if w.hasQuorum() {
		w.giveIDs(pods)
	}
}

// commit has the mons of the quorum know who was taken out of the monmap: those end.
func (w *World) commit() {
	if w.Ceph == nil {
		return
	}
	left := w.Ceph.Mons()
	gone := func(name string) bool { return !slices.Contains(left, name) }
	if !slices.ContainsFunc(w.monmap, gone) {
		return
	}
	for _, name := range w.monmap {
		w.removed[name] = w.removed[name] || gone(name)
	}
	w.monmap = slices.DeleteFunc(w.monmap, gone)
	for at, s := range w.stores {
		if _, name, _ := strings.Cut(at, "/"); slices.Contains(w.quorum, name) {
			s.mons, s.epoch = slices.Clone(w.monmap), s.epoch+1
		}
	}
}

// elect returns the newest monmap of which a majority runs, as the store of one of them
// has it, and these mons.
func elect(running map[string]*store) (newest *store, agreed []string) {
	for name, s := range running {
		if newest != nil && s.epoch <= newest.epoch || !slices.Contains(s.mons, name) {
			continue
		}
		if alive := aliveOf(s, running, nil); 2*len(alive) > len(s.mons) {
			newest, agreed = s, alive
		}
	}
	return newest, agreed
}

// aliveOf are the mons of a store's monmap that run, know none that is newer, and are
// not of another quorum. One that is not in its own map takes part once it has learnt a
// newer one.
func aliveOf(s *store, running map[string]*store, other []string) (alive []string) {
	for _, name := range s.mons {
		if r := running[name]; r != nil && (r.epoch < s.epoch || r.epoch == s.epoch && slices.Contains(r.mons, name)) && !slices.Contains(other, name) {
			alive = append(alive, name)
		}
	}
	return alive
}

// refuseSecond is what must never be: mons of different maps, each in a quorum.
func (w *World) refuseSecond(running map[string]*store, newest *store, agreed []string) {
	for _, s := range running {
		if alive := aliveOf(s, running, agreed); 2*len(alive) > len(s.mons) {
			w.violated("two quorums at once: mons %v of %v, and %v of %v", agreed, newest.mons, alive, s.mons)
		}
	}
}

// join adds the mons that were never in a monmap, and has all of the quorum know it.
func (w *World) join(running map[string]*store, newest *store, agreed []string) {
	w.monmap, w.quorum = slices.Clone(newest.mons), slices.Clone(agreed)
	for _, name := range slices.Sorted(maps.Keys(running)) {
		if s := running[name]; !slices.Contains(w.monmap, name) && !slices.Contains(s.mons, name) {
			w.monmap, w.quorum = append(w.monmap, name), append(w.quorum, name)
		}
	}
	slices.Sort(w.quorum)
	epoch := newest.epoch
	if epoch == 0 || len(w.monmap) > len(newest.mons) {
		epoch++
	}
	for _, name := range w.quorum {
		running[name].mons, running[name].epoch = slices.Clone(w.monmap), epoch
	}
}

// Quorum are the mons that take part.
func (w *World) Quorum() []string { return slices.Clone(w.quorum) }

func (w *World) hasQuorum() bool { return w.Ceph != nil && w.quorate }

// operate does what `cairn-daemon mon` does on a node, but asks nobody whether a mon
// runs: that is for the operator to know.
func (w *World) operate(job *batchv1.Job, running []corev1.Pod) {
	command := job.Spec.Template.Spec.Containers[0].Command
	if slices.Contains(command, "collect") || slices.Contains(command, "found") {
		w.fromOSDs(job, command, running)
		return
	}
	from := flag(command, "--mon")
	s := w.stores[job.Spec.Template.Spec.NodeName+"/"+from]
	if s == nil || s.fsid != flag(command, "--fsid") || s.epoch == 0 {
		return // it fails, and tries again
	}
	for _, pod := range running {
		if pod.Labels[kube.LabelComponent] == "mon" {
			w.violated("the store of mon %s was worked on while %s ran", from, pod.Name)
		}
	}
	if slices.Contains(command, "keep") {
		s.kept = true
	} else if !slices.Equal(s.mons, []string{from}) {
		if !s.kept {
			w.violated("the monmap of mon %s was changed before its store was kept", from)
		}
		s.mons, s.epoch, s.maxID = []string{from}, s.epoch+1, w.beyond()
	}
	job.Status.Succeeded = 1
	require.NoError(w.t, w.Client.Status().Update(w.context(), job))
}

// LoseStores removes the mon stores of a node, as a new system disk does.
func (w *World) LoseStores(node string) {
	maps.DeleteFunc(w.stores, func(at string, _ *store) bool { return strings.HasPrefix(at, node+"/") })
}

// Stores are the mon stores on the nodes: node/mon.
func (w *World) Stores() (stores []string) {
	for at := range w.stores {
		stores = append(stores, at)
	}
	return stores
}
