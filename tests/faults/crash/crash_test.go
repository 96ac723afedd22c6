package crash

import (
	"errors"
	"fmt"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/faults/scenario"
)

func TestMain(m *testing.M) {
	watchDisks()
	os.Exit(m.Run())
}

// offered asks the driver what it serves; what it does not has its reason.
func offered(t *testing.T) map[string]string {
	reasons := map[string]string{}
	synctest.Test(t, func(t *testing.T) {
		w, err := newWorld(t.Context(), t.TempDir(), newPlan(Kill), mutant{})
		require.NoError(t, err)
		defer w.end()
		claimed, err := scenario.Claimed(t.Context(), w)
		require.NoError(t, err)
		for _, rpc := range scenario.RPCs() {
			offered, why, err := rpc.Offered(t.Context(), w)
			require.NoError(t, err)
			require.NoError(t, rpc.Claims(claimed, offered))
			if !offered {
				reasons[rpc.Method()] = why
			}
		}
	})
	return reasons
}

// Every RPC of the specification: each that the driver offers ends, after a fault
// at any boundary, where it ends without one.
func TestEveryBoundary(t *testing.T) {
	var table strings.Builder
	boundaries, runs := 0, 0
	offers := offered(t)
	for _, rpc := range scenario.RPCs() {
		if why := offers[rpc.Method()]; why != "" {
			fmt.Fprintf(&table, "  %-58s not offered: %s\n", rpc.Service+"."+rpc.Name, why)
			continue
		}
		cases := scenario.Cases(rpc)
		if len(cases) == 0 {
			t.Errorf("%s has no case in tests/faults/scenario", rpc.Method())
		}
		for _, c := range cases {
			r, err := sweep(t, c, mutant{}, kinds...)
			var lacks *scenario.NotOffered
			if errors.As(err, &lacks) {
				fmt.Fprintf(&table, "  %-58s not offered: %s\n", c, lacks)
				continue
			}
			if err != nil {
				t.Errorf("%s: %v", c, err)
				continue
			}
			for _, err := range r.Failures {
				t.Error(err)
			}
			fmt.Fprintf(&table, "  %-58s %10d %6d %6d\n", c, r.Boundaries, r.Runs, r.Runs-len(r.Failures))
			boundaries, runs = boundaries+r.Boundaries, runs+r.Runs
		}
	}
	fmt.Printf("crashes: %-51s boundaries   runs passed\n%s  %d boundaries, %d runs with a fault, all of which must pass: the same result, and nothing left\n", "RPC", table.String(), boundaries, runs)
}
