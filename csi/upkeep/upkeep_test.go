package upkeep

import (
	"context"
	"fmt"
	"strconv"
	"testing"
	"time"

	"github.com/prometheus/client_golang/prometheus"
	"github.com/stretchr/testify/require"
	"k8s.io/client-go/util/workqueue"

	"github.com/cairn-storage/cairn/csi/connections"
	"github.com/cairn-storage/cairn/csi/imagemeta"
	"github.com/cairn-storage/cairn/csi/places"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
)

const fsid = "6f0c1d2e-3b4a-4c5d-8e6f-7a8b9c0d1e2f"

type site struct {
	*testing.T
	u        *Upkeep
	cluster  *model.Cluster
	conn     ceph.Conn
	registry *prometheus.Registry
}

func newSite(t *testing.T) *site {
	cluster := model.New(fsid)
	conn, err := cluster.Connect(t.Context(), ceph.Credentials{FSID: fsid}, ceph.ConnectOptions{})
	require.NoError(t, err)
	for _, pool := range []string{"fast", "slow"} {
		require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: pool, Size: 1, Application: "rbd"}))
	}
	registry := prometheus.NewRegistry()
	clusters := connections.New(connections.Static{fsid: {FSID: fsid}}, cluster, connections.Timeouts)
	u := New(clusters, places.Static{{FSID: fsid}, {FSID: fsid, Namespace: "tenant"}}, Limits{SoftDepth: 2, HardDepth: 4, SoftSnapshots: 2, HardSnapshots: 3}, registry)
	return &site{t, u, cluster, conn, registry}
}

func ref(name string) ceph.ImageRef { return ceph.ImageRef{PoolID: 1, Name: name} }

func (s *site) image(name string) ceph.ImageRef {
	require.NoError(s, s.conn.CreateImage(s.Context(), ref(name), ceph.ImageSpec{Size: 1 << 20, Metadata: map[string]string{imagemeta.Name: name}}))
	return ref(name)
}

func (s *site) snapshot(image ceph.ImageRef, name string) ceph.SnapshotRef {
	snapshot, err := s.conn.CreateSnapshot(s.Context(), image, name)
	require.NoError(s, err)
	return snapshot.Ref
}

func (s *site) clone(of ceph.SnapshotRef, name string, depth int) ceph.ImageRef {
	require.NoError(s, s.conn.CloneImage(s.Context(), of, ref(name), ceph.ImageSpec{Size: 1 << 20,
		Metadata: map[string]string{imagemeta.Name: name, imagemeta.Depth: strconv.Itoa(depth)}}))
	return ref(name)
}

func (s *site) hide(image ceph.ImageRef) (hidden ceph.ImageRef) {
	info, err := s.conn.ImageInfo(s.Context(), image)
	require.NoError(s, err)
	require.NoError(s, s.conn.HideImage(s.Context(), image))
	image.Name = ceph.HiddenPrefix + info.ID
	return image
}

func (s *site) removeSnapshot(ref ceph.SnapshotRef) {
	require.NoError(s, s.conn.RemoveSnapshot(s.Context(), ref))
	s.u.SnapshotRemoved(fsid, ref)
}

func (s *site) exists(image ceph.ImageRef) bool {
	_, err := s.conn.ImageInfo(s.Context(), image)
	if err != nil {
		require.Equal(s, ceph.NotFound, ceph.KindOf(err))
	}
	return err == nil
}

// metric returns the value of a counter or gauge without labels.
func (s *site) metric(name string) float64 {
	families, err := s.registry.Gather()
	require.NoError(s, err)
	for _, f := range families {
		if f.GetName() == name {
			m := f.GetMetric()[0]
			return m.GetCounter().GetValue() + m.GetGauge().GetValue()
		}
	}
	require.Fail(s, "there is no metric "+name)
	return 0
}

// settle does what is queued and due, until there is nothing.
func (s *site) settle() {
	for s.u.quick.Len()+s.u.slow.Len() > 0 {
		for s.u.quick.Len() > 0 {
			s.step(s.u.quick)
		}
		if s.u.slow.Len() > 0 {
			s.step(s.u.slow)
		}
	}
}

func (s *site) step(queue workqueue.TypedRateLimitingInterface[task]) {
	t, _ := queue.Get()
	again, err := s.u.do(s.Context(), t)
	s.u.done(s.Context(), queue, t, again, err)
	queue.Done(t)
}

// due makes a delayed task due.
func (s *site) due(k kind, image ceph.ImageRef) {
	s.u.quick.Add(task{k, rootOf(fsid, image), image.Name})
	s.settle()
}

func TestAHiddenImageIsPurged(t *testing.T) {
	s := newSite(t)
	kept, gone := s.image("pvc-1"), s.hide(s.image("pvc-2"))
	s.u.Hidden(rootOf(fsid, gone))
	s.settle()
	require.False(t, s.exists(gone))
	require.True(t, s.exists(kept))
	require.Equal(t, 1.0, s.metric("cairn_csi_purged_images_total"))
}

// An image that something needs stays, and says what for.
func TestWhatIsNeededStays(t *testing.T) {
	s := newSite(t)
	image := s.image("pvc-1")
	snapshot := s.snapshot(image, "a")
	clone := s.clone(snapshot, "pvc-2", 1)
	hidden := s.hide(image)
	s.u.Hidden(rootOf(fsid, image))
	s.settle()
	why := func() string { return s.u.waiting[task{purge, rootOf(fsid, hidden), hidden.Name}].reason }
	require.Equal(t, "it has 1 snapshots", why())
	require.Equal(t, 1.0, s.metric("cairn_csi_purge_waiting_images"))

	s.removeSnapshot(snapshot)
	s.settle()
	require.Equal(t, "clones of it live on", why())

	open, err := s.conn.OpenImage(t.Context(), hidden, ceph.OpenOptions{})
	require.NoError(t, err)
	s.due(purge, hidden)
	require.Contains(t, why(), "open at ")
	require.NoError(t, open.Close())

	// Its last clone takes it along.
	last := s.hide(clone)
	s.u.Hidden(rootOf(fsid, clone))
	s.settle()
	require.False(t, s.exists(last))
	require.False(t, s.exists(hidden))
	require.Zero(t, s.metric("cairn_csi_purge_waiting_images"))
}

func TestAnImageThatWaitsKeepsItsTurn(t *testing.T) {
	s := newSite(t)
	image := s.image("pvc-1")
	s.snapshot(image, "a")
	s.hide(image)
	s.u.Hidden(rootOf(fsid, image))
	s.settle()
	tries := s.cluster.Calls()["RemoveImage"]
	for range 5 {
		s.u.Hidden(rootOf(fsid, image))
		s.settle()
	}
	require.Equal(t, tries, s.cluster.Calls()["RemoveImage"])
}

func TestATryThatFailsIsMadeAgain(t *testing.T) {
	s := newSite(t)
	hidden := s.hide(s.image("pvc-1"))
	s.cluster.FailWith(func(op string) error {
		if op == "RemoveImage" {
			return ceph.Errorf(ceph.Timeout, op, "planted")
		}
		return nil
	})
	s.u.Hidden(rootOf(fsid, hidden))
	s.settle()
	require.True(t, s.exists(hidden))
	require.Contains(t, s.u.waiting[task{purge, rootOf(fsid, hidden), hidden.Name}].reason, "planted")
	s.cluster.FailWith(nil)
	s.due(purge, hidden)
	require.False(t, s.exists(hidden))
}

// What an earlier process left behind is found in all pools and namespaces.
func TestASurveyFindsWhatIsLeft(t *testing.T) {
	s := newSite(t)
	var hidden []ceph.ImageRef
	for pool := range int64(2) {
		for _, namespace := range []string{"", "tenant"} {
			image := ceph.ImageRef{PoolID: pool + 1, Namespace: namespace, Name: "pvc-1"}
			require.NoError(t, s.conn.CreateImage(t.Context(), image, ceph.ImageSpec{Size: 1 << 20}))
			hidden = append(hidden, s.hide(image))
		}
	}
	source := s.image("pvc-2")
	complete := s.snapshot(source, imagemeta.TemporaryPrefix+"pvc-3")
	s.clone(complete, "pvc-3", 1)
	require.NoError(t, s.u.Survey(t.Context()))
	s.settle()
	for _, image := range hidden {
		require.False(t, s.exists(image), image)
	}
	left, err := s.conn.ListSnapshots(t.Context(), source)
	require.NoError(t, err)
	require.Empty(t, left)
}

// A cluster that does not answer does not keep the others waiting.
func TestASurveyGoesOn(t *testing.T) {
	s := newSite(t)
	hidden := s.hide(s.image("pvc-1"))
	s.u.places = places.Static{{FSID: "00000000-3b4a-4c5d-8e6f-7a8b9c0d1e2f"}, {FSID: fsid}}
	require.Error(t, s.u.Survey(t.Context()))
	s.settle()
	require.False(t, s.exists(hidden))
}

func TestTemporarySnapshotsAreSweptWhenNothingNeedsThem(t *testing.T) {
	s := newSite(t)
	source := s.image("pvc-1")
	s.snapshot(source, "kept")
	s.snapshot(source, imagemeta.TemporaryPrefix+"pvc-2") // no clone yet
	begun := s.snapshot(source, imagemeta.TemporaryPrefix+"pvc-3")
	s.clone(begun, "pvc-3", 1)
	require.NoError(t, s.conn.SetImageMetadata(t.Context(), ref("pvc-3"), map[string]string{imagemeta.Name: "pvc-1"})) // cut off: its parent's
	elsewhere := s.snapshot(source, imagemeta.TemporaryPrefix+"pvc-4")
	require.NoError(t, s.conn.CloneImage(t.Context(), elsewhere, ceph.ImageRef{PoolID: 2, Name: "pvc-4"},
		ceph.ImageSpec{Size: 1 << 20, Metadata: map[string]string{imagemeta.Name: "pvc-4"}}))
	names := func() (names []string) {
		list, err := s.conn.ListSnapshots(t.Context(), source)
		require.NoError(t, err)
		for _, l := range list {
			names = append(names, l.Name)
		}
		return names
	}
	s.due(sweep, source)
	require.Equal(t, []string{"kept", imagemeta.TemporaryPrefix + "pvc-2", imagemeta.TemporaryPrefix + "pvc-3"}, names())
	s.u.now = func() time.Time { return time.Now().Add(sweepAge + time.Minute) }
	s.due(sweep, source)
	require.Equal(t, []string{"kept", imagemeta.TemporaryPrefix + "pvc-3"}, names(), "a clone that is begun keeps its snapshot")
	require.NoError(t, s.conn.SetImageMetadata(t.Context(), ref("pvc-3"), map[string]string{imagemeta.Name: "pvc-3"}))
	s.due(sweep, source)
	require.Equal(t, []string{"kept"}, names())
}

// A left-over snapshot does not keep a deleted volume.
func TestALeftOverSnapshotOfADeletedVolume(t *testing.T) {
	s := newSite(t)
	source := s.image("pvc-1")
	clone := s.clone(s.snapshot(source, imagemeta.TemporaryPrefix+"pvc-2"), "pvc-2", 1)
	hidden := s.hide(source)
	s.u.Hidden(rootOf(fsid, source))
	s.settle()
	require.True(t, s.exists(hidden), "its clone lives on")
	gone := s.hide(clone)
	s.u.Hidden(rootOf(fsid, clone))
	s.settle()
	require.False(t, s.exists(gone))
	require.False(t, s.exists(hidden))
}

// chain makes a chain of clones and returns all its images.
func (s *site) chain(length int) (images []ceph.ImageRef) {
	images = append(images, s.image("pvc-0"))
	for n := 1; n <= length; n++ {
		images = append(images, s.clone(s.snapshot(images[n-1], "s"), fmt.Sprintf("pvc-%d", n), n))
	}
	return images
}

func (s *site) depth(image ceph.ImageRef) int {
	info, err := s.conn.ImageInfo(s.Context(), image)
	require.NoError(s, err)
	return imagemeta.DepthOf(info)
}

func TestDeepClonesAreFlattened(t *testing.T) {
	s := newSite(t)
	images := s.chain(4)
	require.NoError(t, s.u.Survey(t.Context()))
	s.settle()
	// The third stands alone now; the fourth is one deep, and says so.
	require.Equal(t, []int{0, 1, 2, 0, 1}, []int{s.depth(images[0]), s.depth(images[1]), s.depth(images[2]), s.depth(images[3]), s.depth(images[4])})
	require.Equal(t, 1.0, s.metric("cairn_csi_flattened_images_total"))
	require.Equal(t, 1, s.cluster.Calls()["FlattenImage"])
}

// A deep clone of deleted volumes is flattened, and frees them all.
func TestFlatteningFreesWhatWasDeleted(t *testing.T) {
	s := newSite(t)
	images := s.chain(3)
	var hidden []ceph.ImageRef
	for _, image := range images[:3] {
		list, err := s.conn.ListSnapshots(t.Context(), image)
		require.NoError(t, err)
		hidden = append(hidden, s.hide(image))
		s.removeSnapshot(list[0].Ref)
	}
	s.settle()
	for _, image := range hidden {
		require.True(t, s.exists(image))
	}
	s.u.Deep(fsid, images[3])
	s.settle()
	require.Zero(t, s.depth(images[3]))
	for _, image := range hidden {
		require.False(t, s.exists(image))
	}
}

func TestSnapshotsAreCounted(t *testing.T) {
	s := newSite(t)
	image := s.image("pvc-1")
	first := s.snapshot(image, "a")
	s.due(count, image)
	require.Zero(t, s.u.Snapshots(fsid, image), "few enough")
	s.snapshot(image, "b")
	s.due(count, image)
	require.Equal(t, 2, s.u.Snapshots(fsid, image))
	s.removeSnapshot(first)
	s.due(count, image)
	require.Zero(t, s.u.Snapshots(fsid, image))
}

// Run does all of this by itself, and ends with its context.
func TestRun(t *testing.T) {
	s := newSite(t)
	before := s.hide(s.image("pvc-1"))
	after := s.image("pvc-2")
	ctx, cancel := context.WithCancel(t.Context())
	done := make(chan struct{})
	go func() {
		defer close(done)
		s.u.Run(ctx)
	}()
	after = s.hide(after)
	s.u.Hidden(rootOf(fsid, after))
	require.Eventually(t, func() bool { return !s.exists(before) && !s.exists(after) }, 20*time.Second, 5*time.Millisecond)
	cancel()
	<-done
}

// Without upkeep nothing is done, and nothing breaks.
func TestNil(t *testing.T) {
	var u *Upkeep
	u.Hidden(places.Root{})
	u.SnapshotRemoved(fsid, ceph.SnapshotRef{})
	u.Deep(fsid, ceph.ImageRef{})
	u.Temporary(fsid, ceph.ImageRef{})
	u.Snapshotted(fsid, ceph.ImageRef{})
	require.Zero(t, u.Snapshots(fsid, ceph.ImageRef{}))
	require.Equal(t, Defaults, u.Limits())
}
