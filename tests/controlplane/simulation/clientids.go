package simulation

import (
	"slices"
	"strconv"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/operator/kube"
)

// firstMaxID is the maximum that a new cluster begins with.
const firstMaxID = 4096

// giver is a mon that runs, and gives clients IDs as Ceph's AuthMonitor does.
type giver struct {
	run     string
	last    uint64
	settled bool // it has had the time to ask for a range
}

// giveIDs has each mon in quorum give some clients their IDs. That one is given twice is
// what no cluster with data may see.
func (w *World) giveIDs(pods []*corev1.Pod) {
	stored, size := uint64(firstMaxID), uint64(0)
	stores := map[string]*store{}
	for _, pod := range pods {
		if name := pod.Labels[kube.LabelInstance]; slices.Contains(w.quorum, name) {
			stores[name] = w.stores[storeOf(pod)]
			stored = max(stored, stores[name].maxID)
			n, err := strconv.ParseUint(value(pod.Spec.Containers[0].Env, "CLIENT_IDS"), 10, 64)
			require.NoError(w.t, err)
			size = n
		}
	}
	for _, pod := range pods {
		name := pod.Labels[kube.LabelInstance]
		if s := stores[name]; s != nil {
			w.begin(name, pod, max(s.maxID, firstMaxID), stored)
		}
	}
	if slices.ContainsFunc(w.quorum, func(name string) bool {
		g := w.givers[name]
		return g.settled && g.last+1 >= stored-min(size/2, stored)
	}) {
		stored += size
	}
	w.maxID = max(w.maxID, stored)
	next := map[string]uint64{}
	for i, name := range w.quorum {
		g, s := w.givers[name], stores[name]
		g.settled, s.maxID = true, stored
		for range 2 * (i + 1) {
			if id := w.after(g.last, name); id < stored {
				if before := w.given[id]; before != "" {
					w.violated("mon %s gave a client the ID %d, which mon %s had given", name, id, before)
				}
				w.given[id], g.last = name, id
			}
		}
		if id := w.after(g.last, name); id < stored {
			next[name] = id
		}
	}
	w.Ceph.SetClientIDs(next)
}

// begin notices that a mon has started: on from the maximum in its store, or, of one that
// takes over all from the others, from theirs.
func (w *World) begin(name string, pod *corev1.Pod, own, others uint64) {
	var live corev1.Pod
	require.NoError(w.t, w.Client.Get(w.context(), client.ObjectKeyFromObject(pod), &live))
	run := string(live.UID)
	for i := range live.Status.ContainerStatuses {
		run += live.Status.ContainerStatuses[i].ContainerID
	}
	if g := w.givers[name]; g == nil || g.run != run {
		from := own
		if own == firstMaxID {
			from = others
		}
		w.givers[name] = &giver{run: run, last: from}
	}
}

// after an ID the mon gives this one.
func (w *World) after(last uint64, name string) uint64 {
	count, rank := uint64(len(w.monmap)), slices.Index(w.monmap, name)
	id := last + 1
	if rest := id % count; rest > 0 {
		id += count - rest
	}
	return id + uint64(rank)
}

// beyond is where client IDs begin in a store that a lost quorum is rebuilt with.
func (w *World) beyond() uint64 { return w.maxID + 1<<30 }
