package cluster_test

import (
	"context"
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// deadDisk is a converged cluster whose second disk on node1 has failed, with a blank
// third one beside it, and what Ceph knew of the OSD before.
func deadDisk(t *testing.T) (*site, ceph.OSD) {
	s := fourOSDs(t)
	before := *s.known()
	s.Plug("node1", "disk3")
	s.Fail("node1", "disk2")
	s.Step()
	return s, before
}

// replace names the third disk in place of the second.
func (s *site) replace() {
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices[1] = v1alpha1.StorageDevice{Name: "disk3", Replaces: "disk2"}
	})
}

func (s *site) osds() []ceph.OSD {
	conn, err := s.Ceph.Connect(s.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(s.t, err)
	osds, err := conn.OSDs(s.t.Context())
	require.NoError(s.t, err)
	return osds
}

// takenOver says what is wrong when the third disk has not taken exactly the place of
// the second; since is how many writes were made before it was asked to.
func (s *site) takenOver(before ceph.OSD, since int) error {
	want := before
	want.UUID = s.OSDs()["node1/disk3"]
	osds := s.osds()
	if len(osds) != 4 || !slices.Contains(osds, want) {
		return fmt.Errorf("OSDs are %+v, without %+v", osds, want)
	}
	if moved := with(s.Writes()[since:], "ceph SetOSDOut"); len(moved) > 0 {
		return fmt.Errorf("data was moved elsewhere: %v", moved)
	}
	if left := s.left(); len(left) > 0 {
		return fmt.Errorf("of the old OSD is left: %v", left)
	}
	return nil
}

func TestADeviceTakesTheIDAndPlaceOfADeadOne(t *testing.T) {
	s, before := deadDisk(t)
	since := len(s.Writes())
	s.replace()
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.looks(2)
	require.NoError(t, s.takenOver(before, since))
	require.Empty(t, s.errors)
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
}

// An operator that forgets the old OSD as soon as the new one has a key loses its ID when it
// is killed then.
func TestAPlantedBugOfAReplacementIsFound(t *testing.T) {
	s, before := deadDisk(t)
	old := s.OSDs()["node1/disk2"]
	s.client = interceptor.NewClient(s.OperatorClient().(client.WithWatch), interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			if strings.HasPrefix(o.GetName(), "main-osd-") {
				require.NoError(t, c.Delete(ctx, s.Secret("main-osd-"+old[:13])))
			}
			return c.Create(ctx, o, opts...)
		},
	})
	since := len(s.Writes())
	s.replace()
	s.looksUntil("the new OSD is next", func() bool { return slices.ContainsFunc(s.osds(), func(o ceph.OSD) bool { return o.Destroyed }) })
	s.KillAt(len(s.Writes()) + 3) // after the deletion and the key
	s.looks(10)
	require.ErrorContains(t, s.takenOver(before, since), fmt.Sprintf("ID:%d", before.ID))
}

func TestADeadDiskThatAloneHoldsDataIsNotDestroyed(t *testing.T) {
	s, before := deadDisk(t)
	s.Ceph.SetMoving(before.ID, true)
	s.replace()
	s.looks(20)
	require.NotContains(t, s.Writes(), "ceph DestroyOSD")
	require.Contains(t, s.cluster().Status.Plan[0].What, fmt.Sprintf("wait until nothing needs osd.%d (disk2 on node node1): 8 PGs are down", before.ID))

	s.Heal("node1", "disk2")
	s.Step()
	require.True(t, s.known().Up, "its daemon was left to start again")
	s.Ceph.SetMoving(before.ID, false)
	s.looksUntil("it is moved elsewhere, as any that runs", func() bool { return !s.known().In })
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	s.looks(2)
	require.Equal(t, before.ID, osdOn(s.osds(), s.OSDs()["node1/disk3"]))
}

func osdOn(osds []ceph.OSD, uuid string) int {
	at := slices.IndexFunc(osds, func(o ceph.OSD) bool { return o.UUID == uuid })
	if at < 0 {
		return -1
	}
	return osds[at].ID
}

// What was true when the operator looked may not be so when it acts.
func TestCephIsAskedOnceMoreAtTheMomentOfDestruction(t *testing.T) {
	s, before := deadDisk(t)
	s.replace()
	s.looksUntil("it is stopped", func() bool { return len(s.left()) == 1 })
	s.BeforeCeph("DestroyOSD", func() { s.Ceph.SetMoving(before.ID, true) })
	s.looks(3)
	require.Contains(t, s.Writes(), "ceph DestroyOSD")
	require.Equal(t, before.UUID, s.known().UUID, "it is still there")
	require.Len(t, s.left(), 2, "and its daemon was started again")
	s.Ceph.SetMoving(before.ID, false)
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
}

func TestAPlaceThatNobodyTakesIsGivenUp(t *testing.T) {
	s, _ := deadDisk(t)
	s.replace()
	s.looksUntil("it is destroyed", func() bool { return slices.ContainsFunc(s.osds(), func(o ceph.OSD) bool { return o.Destroyed }) })
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = c.Spec.Storage.Nodes[0].Devices[:1]
	})
	require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
	s.looks(2)
	require.Len(t, s.osds(), 3)
	require.Empty(t, s.left())
}

func TestADeviceThatIsTooSmallOrUsedTakesNoPlace(t *testing.T) {
	s, _ := deadDisk(t)
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = []v1alpha1.StorageDevice{{Name: "disk1", Replaces: "disk2"}}
	})
	s.looks(10)
	require.NotContains(t, s.Writes(), "ceph DestroyOSD")
	c := s.cluster()
	require.Equal(t, v1alpha1.ReasonNotSafeToRemove, c.Status.Blocker.Reason)
	require.Contains(t, c.Status.Blocker.Message, "disk1 has an OSD of its own already. Leave out 'replaces'")
}

func TestReplacingWhatIsNoOSDIsSaid(t *testing.T) {
	s, _ := deadDisk(t)
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[1].Devices = append(c.Spec.Storage.Nodes[1].Devices, v1alpha1.StorageDevice{Name: "disk2", Replaces: "disk9"})
	})
	s.looks(10)
	require.Contains(t, fmt.Sprint(s.cluster().Status.Plan), "'replaces' names the device of an OSD: there is none on disk9 of node node2")
}
