package cluster_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// approve approves what waits for it, as 'kubectl cairn approve' does, and returns it.
func (s *site) approve() (names []string) {
	s.edit(func(c *v1alpha1.StorageCluster) {
		for _, step := range c.Status.Plan {
			if step.NeedsApproval {
				names = append(names, step.Name)
			}
		}
		v1alpha1.Approve(c, names...)
	})
	return names
}

// held looks until steps are held, and then that nothing is written while they are.
func (s *site) held() {
	s.t.Helper()
	s.looksUntil("a step waits for approval", func() bool {
		c := s.cluster()
		b := c.Status.Blocker
		return c.Status.ObservedGeneration == c.Generation && b != nil && b.Reason == v1alpha1.ReasonNeedsApproval
	})
	before, writes := s.versions(), len(s.Writes())
	s.looks(20)
	require.Empty(s.t, s.Writes()[writes:])
	require.Equal(s.t, before, s.versions())
}

func TestWithManualApprovalAnOSDLeavesInTwoApprovedSteps(t *testing.T) {
	s := fourOSDs(t)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Approval = v1alpha1.ApprovalManual })
	s.converge()
	s.takeOut()
	s.held()
	require.True(t, s.known().In)
	require.Len(t, s.approve(), 1)
	s.looksUntil("its data is moved", func() bool { return !s.known().In })
	s.held()
	require.NotNil(t, s.known(), "what cannot be undone is approved by itself")
	require.Len(t, s.approve(), 1)
	require.Equal(t, "3/3", s.converge().Status.OSDs.Summary)
	require.Nil(t, s.known())
}

func TestAnApprovalEndsWithTheSpecThatItWasFor(t *testing.T) {
	s := fourOSDs(t)
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Approval = v1alpha1.ApprovalManual })
	s.converge()
	s.takeOut()
	s.held()
	s.edit(func(c *v1alpha1.StorageCluster) {
		v1alpha1.Approve(c, c.Status.Plan[0].Name)
		c.Spec.Resources.Mgr.Limits = nil
		c.Spec.Mon.FailoverAfter.Duration *= 2
	})
	s.held()
	require.True(t, s.known().In)
}

func TestWithManualApprovalADeviceWaitsOnceThereIsAPool(t *testing.T) {
	s := newSite(t, func(c *v1alpha1.StorageCluster) { c.Spec.Approval = v1alpha1.ApprovalManual })
	s.converge() // a new cluster needs no approval
	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.EnsurePool(t.Context(), ceph.PoolSpec{Name: "fast", Size: 3, FailureDomain: "host"}))
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: "disk2"})
	})
	s.held()
	require.Len(t, s.OSDs(), 3)
	require.Equal(t, []string{"osd-node1-disk2"}, s.approve())
	require.Equal(t, "4/4", s.converge().Status.OSDs.Summary)
}
