package cluster_test

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Where disks are named by their slots, another disk may come under a name that an OSD has.

func TestADiskThatIsExchangedUnderItsNameTakesIDAndPlace(t *testing.T) {
	s := fourOSDs(t)
	before := *s.known()
	s.Plug("node1", "disk2")
	s.Step()
	s.looks(3)
	require.Contains(t, s.cluster().Status.Blocker.Message, "its device is blank")
	since := len(s.Writes())
	s.looks(3)
	require.Empty(t, s.Writes()[since:], "nothing is made of it unasked")

	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Storage.Nodes[0].Devices[1].Replaces = "disk2" })
	s.looksUntil("the new disk has the place", func() bool { return s.takes(before, "node1/disk2") })
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	require.NotEqual(t, before.UUID, s.OSDs()["node1/disk2"])
	require.Empty(t, with(s.Writes()[since:], "ceph SetOSDOut"))

	again := *s.known()
	s.Plug("node1", "disk2")
	s.looksUntil("the next one has it", func() bool {
		return s.known() != nil && s.takes(before, "node1/disk2") && s.OSDs()["node1/disk2"] != again.UUID
	})
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
	require.Empty(t, s.errors)
}

func TestABlankDiskWhereAMovedOneWasIsAnOSDOfItsOwn(t *testing.T) {
	s := fourOSDs(t)
	before := *s.known()
	s.Move("node1", "disk2", "node2", "disk9")
	s.Plug("node1", "disk2")
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[1].Devices = append(c.Spec.Storage.Nodes[1].Devices, v1alpha1.StorageDevice{Name: "disk9"})
	})
	before.Host = "node2"
	s.looksUntil("both run", func() bool { return s.takes(before, "node2/disk9") && s.known() != nil && s.known().Up })
	require.Equal(t, "5/5", s.converge().Status.OSDs.Summary)
	require.NotEqual(t, before.UUID, s.OSDs()["node1/disk2"])
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(t, s.Writes()[writes:])
	require.Empty(t, s.errors)
}

// takes reports whether an OSD is as it was, but for its device.
func (s *site) takes(want ceph.OSD, at string) bool {
	return slices.ContainsFunc(s.osds(), func(o ceph.OSD) bool {
		want.UUID = s.OSDs()[at]
		return o == want
	})
}
