package cluster_test

import (
	"maps"
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	batchv1 "k8s.io/api/batch/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// addWithDB names the second disk of node1, with its database on a third.
func (s *site) addWithDB() {
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2", DBDevice: "disk3"})
	})
}

func fastDisk(t *testing.T) *site {
	s := newSite(t)
	s.Plug("node1", "disk3")
	s.converge()
	s.look()
	return s
}

func (s *site) freeingJobs() int {
	var jobs batchv1.JobList
	require.NoError(s.t, s.Client.List(s.t.Context(), &jobs, client.InNamespace(s.Namespace)))
	return len(jobs.Items)
}

func beginDatabase(t *testing.T) (*site, func()) {
	s := fastDisk(t)
	return s, func() {
		s.addWithDB()
		s.looksUntil("it is used", func() bool { return s.known() != nil && s.known().Up })
		require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
		s.looks(3)
		s.takeOut()
		s.looksUntil("nothing to be left", func() bool { return len(s.left()) == 0 })
		require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
		require.Empty(t, s.Databases(), "the DB device is free again")
		require.Zero(t, s.freeingJobs())
	}
}

func TestADBDeviceServesItsOSDAndIsFreeWhenThatIsGone(t *testing.T) {
	s, act := beginDatabase(t)
	act()
	require.Empty(t, s.errors)
	require.True(t, slices.Contains(slices.Collect(maps.Keys(s.OSDs())), "node1/disk2"), "the OSD's own device keeps what is on it")
}

func TestADeadDiskIsReplacedAndGetsItsDatabaseAnew(t *testing.T) {
	s := fastDisk(t)
	s.addWithDB()
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.looks(2)
	before := *s.known()
	s.Fail("node1", "disk2")
	s.Plug("node1", "disk4")
	s.Step()
	since := len(s.Writes())
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices[1] = v1alpha1.StorageDevice{Name: "disk4", Replaces: "disk2", DBDevice: "disk3"}
	})
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.looks(2)
	uuid := s.OSDs()["node1/disk4"]
	require.Equal(t, map[string]string{"node1/disk3": uuid}, s.Databases())
	want := before
	want.UUID = uuid
	require.True(t, slices.ContainsFunc(s.osds(), func(o ceph.OSD) bool { return o == want }), "ID and place stay: %+v", s.osds())
	require.Empty(t, s.left())
	require.Zero(t, s.freeingJobs())
	require.Empty(t, with(s.Writes()[since:], "ceph SetOSDOut"), "nothing is moved elsewhere")
	require.Empty(t, s.errors)
}

// A device that is named again while the one before it is being forgotten waits for that.
func TestADeviceThatIsNamedAgainWaitsUntilItsDatabaseIsGone(t *testing.T) {
	s := fastDisk(t)
	s.addWithDB()
	s.converge()
	s.looks(2)
	s.takeOut()
	s.looksUntil("its database is being emptied", func() bool { return s.freeingJobs() > 0 })
	s.Plug("node1", "disk2") // a person has wiped it
	s.Step()
	s.addWithDB()
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	require.Equal(t, map[string]string{"node1/disk3": s.OSDs()["node1/disk2"]}, s.Databases())
	require.Zero(t, s.freeingJobs())
}

func TestWhatADatabaseLeadsToIsForeseen(t *testing.T) {
	s := fastDisk(t)
	s.happensAsForeseen(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2", DBDevice: "disk3"})
	})
	s.events = nil
	s.happensAsForeseen(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
	})
}
