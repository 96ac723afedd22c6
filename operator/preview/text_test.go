package preview

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/crush"
	"github.com/cairn-storage/cairn/operator/cluster"
)

func text(t *testing.T, a Answer) string {
	var out strings.Builder
	require.NoError(t, a.write(&out))
	return out.String()
}

func TestAPlanReadsWell(t *testing.T) {
	require.Equal(t, strings.TrimPrefix(`
StorageCluster main: 3 steps

   STEP         RISK       WHAT                       WHY               WAITS UNTIL
1  mgr-a        Restart    restart mgr-a              its spec changed  
2  osd-3-drain  MovesData  move the data of osd.3     the spec let go   there is room
3  osd-3-purge  Destroys   remove osd.3 from the map  the spec let go   

Restarts:           mgr-a
Moves data:         osd-3-drain
Destroys:           osd-3-purge
Needs approval:     osd-3-drain, osd-3-purge
Data that moves:    1.0 GiB of 4.0 GiB (25 %), in 8 of 32 PGs, for osd-3-drain
Redundancy:         one daemon less, or one node's OSDs, while they restart; then as now
Capacity:           30.0 GiB raw, now 40.0 GiB; 5.0 GiB are used
`, "\n"), text(t, Answer{Kind: "StorageCluster", Name: "main", Foresight: cluster.Foresight{
		Steps: []v1alpha1.PlanStep{
			{Name: "mgr-a", What: "restart mgr-a", Why: "its spec changed", Risk: v1alpha1.RiskRestart},
			{Name: "osd-3-drain", What: "move the data of osd.3", Why: "the spec let go", Gate: "there is room", Risk: v1alpha1.RiskMovesData, NeedsApproval: true},
			{Name: "osd-3-purge", What: "remove osd.3 from the map", Why: "the spec let go", Risk: v1alpha1.RiskDestroys, NeedsApproval: true},
		},
		Moves:          []cluster.Move{{Steps: []string{"osd-3-drain"}, Movement: crush.Movement{Bytes: 1 << 30, Total: 4 << 30, PGs: 8, AllPGs: 32}}},
		CapacityBefore: 40 << 30, CapacityAfter: 30 << 30, Used: 5 << 30,
	}}))
}

func TestAPlanSaysWhereItStops(t *testing.T) {
	require.Equal(t, "StorageCluster main: nothing to do, it is as specified\n", text(t, Answer{Kind: "StorageCluster", Name: "main"}))
	require.Equal(t, "BlockPool fast: too few hosts\n", text(t, Answer{Kind: "BlockPool", Name: "fast", Problem: "too few hosts"}))
	stopped := Answer{Kind: "StorageCluster", Name: "main", Foresight: cluster.Foresight{Stop: "drain osd.3", Blocker: &v1alpha1.Blocker{Message: "no room. Add devices"}}}
	require.Contains(t, text(t, stopped), "It stops at:        'drain osd.3': no room. Add devices\n")
	stopped.Blocker = nil
	require.Contains(t, text(t, stopped), "'drain osd.3': what comes after that cannot be said now")
}
