package pool_test

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

func TestWithManualApprovalAPoolKeepsItsReplicasUntilItIsApproved(t *testing.T) {
	s := newSite(t)
	p := s.pool("-held", func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 3 })
	s.owner.Spec.Approval = v1alpha1.ApprovalManual
	require.NoError(t, s.Client.Update(t.Context(), s.owner))
	require.Empty(t, s.converge(p).Status.Plan, "a new pool needs no approval")

	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 2 })
	var seen *v1alpha1.BlockPool
	for range looks {
		seen = s.look(p)
	}
	require.Equal(t, metav1.ConditionFalse, ready(seen).Status)
	require.Equal(t, v1alpha1.ReasonNeedsApproval, ready(seen).Reason)
	require.Contains(t, ready(seen).Message, "'keep 2 replicas instead of 3' (ReducesRedundancy)")
	require.Contains(t, ready(seen).Message, "kubectl cairn approve blockpool/"+p.Name)
	require.Len(t, seen.Status.Plan, 1)
	require.True(t, seen.Status.Plan[0].NeedsApproval)
	require.Equal(t, 3, s.inCeph(p.Name).Spec.Size)

	require.NoError(t, s.Client.Get(t.Context(), client.ObjectKeyFromObject(p), p))
	v1alpha1.Approve(p, "replicas")
	require.NoError(t, s.Client.Update(t.Context(), p))
	require.Empty(t, s.converge(p).Status.Plan)
	require.Equal(t, 2, s.inCeph(p.Name).Spec.Size)

	s.edit(p, func(spec *v1alpha1.BlockPoolSpec) { spec.Replicas = 3 })
	for range looks {
		seen = s.look(p)
	}
	require.Equal(t, v1alpha1.ReasonNeedsApproval, ready(seen).Reason, "the approval was for the spec before")
	require.Equal(t, 2, s.inCeph(p.Name).Spec.Size)
}
