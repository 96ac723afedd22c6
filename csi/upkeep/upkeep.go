// Package upkeep does in the background what calls leave behind: it removes the
// images of deleted volumes once nothing needs them, flattens chains of clones
// that grew long, and removes snapshots that a crash left over. It keeps no record:
// what is to be done is found by looking, so that a crash at any point loses nothing.
package upkeep

import (
	"context"
	"sync"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"k8s.io/client-go/util/workqueue"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Limits of chains of clones and of snapshots. At a soft limit something is done
// in the background; at a hard one calls are refused until it was done.
type Limits struct {
	// Clones of clones. The kernel's client follows 16.
	SoftDepth, HardDepth int
	// Snapshots of an image. The kernel's client knows 510.
	SoftSnapshots, HardSnapshots int
}

// Defaults are the limits that are kept unless others are set.
var Defaults = Limits{SoftDepth: 4, HardDepth: 8, SoftSnapshots: 400, HardSnapshots: 500}

const (
	// workers at once for what takes moments, and for copying data.
	quickWorkers, flattenWorkers = 4, 1
	// surveyEvery is how often all images are looked at.
	surveyEvery = 6 * time.Hour
	retryStart  = time.Second
	retryMax    = 5 * time.Minute
)

// Upkeep is the work to be done. Its methods may be called at once, and on nil.
type Upkeep struct {
	// Forget ends what is kept elsewhere of the key that a removed image's metadata
	// has a record of; nil where nothing is.
	Forget func(ctx context.Context, record string) error

	clusters places.Clusters
	places   places.Source
	limits   Limits
	now      func() time.Time
	metrics  *metrics

	quick, slow workqueue.TypedRateLimitingInterface[task]

	mu      sync.Mutex
	waiting map[task]wait
	many    map[task]manySnapshots
}

// wait is why a task cannot be done yet.
type wait struct {
	reason string
	since  time.Time
}

// kind of a task.
type kind string

const (
	scan    kind = "scan"    // look for hidden images in a root
	purge   kind = "purge"   // remove a hidden image
	sweep   kind = "sweep"   // remove left-over snapshots of an image
	count   kind = "count"   // count an image's snapshots
	flatten kind = "flatten" // cut a clone's tie to its parent
)

// task is one thing to be done.
type task struct {
	kind kind
	root places.Root
	name string // of the image
}

func (t task) image() ceph.ImageRef { return t.root.Image(t.name) }

// New returns an upkeep with nothing to do yet.
func New(clusters places.Clusters, source places.Source, limits Limits, registry prometheus.Registerer) *Upkeep {
	u := &Upkeep{
		clusters: clusters, places: source, limits: limits, now: time.Now,
		quick: newQueue(), slow: newQueue(),
		waiting: map[task]wait{}, many: map[task]manySnapshots{},
	}
	u.metrics = newMetrics(u, registry)
	return u
}

func newQueue() workqueue.TypedRateLimitingInterface[task] {
	return workqueue.NewTypedRateLimitingQueue(workqueue.NewTypedItemExponentialFailureRateLimiter[task](retryStart, retryMax))
}

// Limits that are kept.
func (u *Upkeep) Limits() Limits {
	if u == nil {
		return Defaults
	}
	return u.limits
}

func rootOf(fsid string, image ceph.ImageRef) places.Root {
	return places.Root{FSID: fsid, PoolID: image.PoolID, Namespace: image.Namespace}
}

// Hidden says that an image was hidden in a root.
func (u *Upkeep) Hidden(root places.Root) {
	if u != nil {
		u.quick.Add(task{kind: scan, root: root})
	}
}

// SnapshotRemoved says that a snapshot was removed: its image may be hidden and
// have waited for that.
func (u *Upkeep) SnapshotRemoved(fsid string, s ceph.SnapshotRef) {
	if u == nil {
		return
	}
	u.again(u.purgeOf(fsid, s))
	u.recount(fsid, s)
}

// purgeOf is the task to remove the image of a snapshot, should it be hidden.
func (u *Upkeep) purgeOf(fsid string, s ceph.SnapshotRef) task {
	return task{purge, places.Root{FSID: fsid, PoolID: s.PoolID, Namespace: s.Namespace}, ceph.HiddenPrefix + s.ImageID}
}

// again tries a task at once, whatever it waited for.
func (u *Upkeep) again(t task) {
	u.quick.Forget(t)
	u.quick.Add(t)
}

// Deep says that an image is a clone many parents deep.
func (u *Upkeep) Deep(fsid string, image ceph.ImageRef) {
	if u != nil {
		u.slow.Add(task{flatten, rootOf(fsid, image), image.Name})
	}
}

// Temporary says that an image may have a left-over snapshot.
func (u *Upkeep) Temporary(fsid string, image ceph.ImageRef) {
	if u != nil {
		u.quick.AddRateLimited(task{sweep, rootOf(fsid, image), image.Name})
	}
}

// Run works until the context ends. Only one process may run it.
func (u *Upkeep) Run(ctx context.Context) {
	var group sync.WaitGroup
	for range quickWorkers {
		group.Go(func() { u.work(ctx, u.quick) })
	}
	for range flattenWorkers {
		group.Go(func() { u.work(ctx, u.slow) })
	}
	group.Go(func() { u.surveys(ctx) })
	<-ctx.Done()
	u.quick.ShutDown()
	u.slow.ShutDown()
	group.Wait()
}

func (u *Upkeep) work(ctx context.Context, queue workqueue.TypedRateLimitingInterface[task]) {
	for {
		t, down := queue.Get()
		if down {
			return
		}
		again, err := u.do(ctx, t)
		u.done(ctx, queue, t, again, err)
		queue.Done(t)
	}
}

// do does a task. It returns after what time it is to be looked at again; zero is
// never, soon is when its turn comes by the number of its failures.
func (u *Upkeep) do(ctx context.Context, t task) (again time.Duration, err error) {
	err = u.clusters.Do(ctx, t.root.FSID, func(cluster ceph.Block) error {
		switch t.kind {
		case scan:
			return u.scan(ctx, cluster, t.root)
		case purge:
			again, err = u.purge(ctx, cluster, t)
		case sweep:
			again, err = u.sweep(ctx, cluster, t)
		case count:
			err = u.count(ctx, cluster, t)
		case flatten:
			err = u.flatten(ctx, cluster, t)
		}
		return err
	})
	return again, err
}

// soon is after a while that grows with each try.
const soon = time.Duration(-1)

func (u *Upkeep) done(ctx context.Context, queue workqueue.TypedRateLimitingInterface[task], t task, again time.Duration, err error) {
	switch {
	case ctx.Err() != nil:
	case err != nil:
		u.metrics.failed.WithLabelValues(string(t.kind)).Inc()
		u.wait(ctx, t, err.Error())
		queue.AddRateLimited(t)
	case again == soon:
		queue.AddRateLimited(t)
	case again > 0:
		queue.Forget(t)
		queue.AddAfter(t, again)
	default:
		queue.Forget(t)
		u.mu.Lock()
		delete(u.waiting, t)
		u.mu.Unlock()
	}
}

// wait notes why a task waits, and logs it when that is new.
func (u *Upkeep) wait(ctx context.Context, t task, reason string) {
	u.mu.Lock()
	before, waits := u.waiting[t]
	if !waits {
		before.since = u.now()
	}
	u.waiting[t] = wait{reason, before.since}
	u.mu.Unlock()
	if reason != before.reason {
		klog.FromContext(ctx).Info("Waiting", "for", t.kind, "image", t.image().String(), "cluster", t.root.FSID, "reason", reason)
	}
}

func (u *Upkeep) waits(t task) bool {
	u.mu.Lock()
	defer u.mu.Unlock()
	_, waits := u.waiting[t]
	return waits
}
