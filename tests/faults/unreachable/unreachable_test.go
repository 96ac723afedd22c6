// Package unreachable makes every RPC while Ceph does not answer: each ends within
// its deadline and says what it waited for, repeats join it, and when Ceph is back
// all is as if nothing had been. It needs root and Ceph: run it in the build root.
package unreachable

import (
	"context"
	"errors"
	"fmt"
	"os"
	"strings"
	"sync"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/tests/faults/driver"
	"github.com/cairn-storage/cairn/tests/faults/scenario"
	"github.com/cairn-storage/cairn/tests/faults/state"
	"github.com/cairn-storage/cairn/tests/localceph"
)

func TestMain(m *testing.M) {
	driver.Main()
	os.Exit(m.Run())
}

// deadline of each call, and how much later than that its answer may come at all.
const (
	deadline = 4 * time.Second
	late     = 6 * time.Second
)

// timeouts of the driver's connections.
var timeouts = ceph.ConnectOptions{MonTimeout: 3 * time.Second, OSDTimeout: 3 * time.Second}

// bench is one driver and all cases at once: they wait together.
type bench struct {
	*testing.T
	*driver.Driver
	calls []*call
}

// call is one case's.
type call struct {
	scenario.Case
	env *scenario.Env
	req proto.Message
	// errs of the call and its repeat, and when each ended.
	errs [2]error
	took [2]time.Duration
}

// The mons alone do not answer, and the driver's processes are new: none has a
// connection yet.
func TestMons(t *testing.T) {
	b := newBench(t)
	b.prepare()
	b.pause("mons unreachable", "ceph-mon")
}

// Nothing of Ceph answers on the connections that there are.
func TestAllDaemons(t *testing.T) {
	b := newBench(t)
	b.prepare()
	b.pause("cluster unreachable")
}

func newBench(t *testing.T) *bench {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{OSDs: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	d, err := driver.Start(ctx, cluster, t.TempDir(), timeouts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Stop()) })
	return &bench{T: t, Driver: d}
}

// prepare makes what the cases of all RPCs that are offered need.
func (b *bench) prepare() {
	for _, rpc := range scenario.RPCs() {
		offered, why, err := rpc.Offered(b.Context(), b)
		require.NoError(b, err)
		if !offered {
			fmt.Printf("unreachable:   %-68s not offered: %s\n", rpc.Service+"."+rpc.Name, why)
			continue
		}
		cases := scenario.Cases(rpc)
		require.NotEmpty(b, cases, "%s has no case in tests/faults/scenario", rpc.Method())
		for _, c := range cases {
			b.add(c)
		}
	}
}

func (b *bench) add(c scenario.Case) {
	made := &call{Case: c, env: b.Env(fmt.Sprintf("case%04d", len(b.calls)))}
	var lacks *scenario.NotOffered
	err := scenario.Try(func() { made.req = c.Prepare(made.env) })
	if errors.As(err, &lacks) {
		require.NoError(b, made.env.Clean())
		return
	}
	require.NoError(b, err, "%s", c)
	b.calls = append(b.calls, made)
}

// pause makes all calls while daemons do not answer, and again when they do.
func (b *bench) pause(what string, daemons ...string) {
	require.NoError(b, b.Ceph.Pause(daemons...))
	if len(daemons) > 0 {
		for _, role := range []string{driver.Controller, driver.Node} {
			require.NoError(b, b.Restart(b.Context(), role))
		}
	}
	b.callAll()
	require.NoError(b, b.Ceph.Resume(daemons...))
	fmt.Printf("%s: %-56s longest  answer\n", what, "RPC")
	for _, c := range b.calls {
		b.judge(c)
	}
	b.recovers()
	fmt.Printf("  %d calls and their repeats ended in time; all of them done when Ceph was back, and nothing left\n", len(b.calls))
}

// callAll makes each call twice at once, all at the same time.
func (b *bench) callAll() {
	var group sync.WaitGroup
	for _, c := range b.calls {
		for i := range c.errs {
			group.Go(func() {
				ctx, cancel := context.WithTimeout(b.Context(), deadline)
				defer cancel()
				start := time.Now()
				_, c.errs[i] = c.RPC.Call(ctx, b, c.req)
				c.took[i] = time.Since(start)
			})
		}
	}
	group.Wait()
}

// judge checks how a call ended: well, where it needs no answer from Ceph, or with
// an error of the driver's own that names the step and the cluster.
func (b *bench) judge(c *call) {
	longest, answer := max(c.took[0], c.took[1]), "done without Ceph"
	for i, err := range c.errs {
		require.Less(b, c.took[i], late, "%s: too late: %v", c, err)
		if err == nil {
			continue
		}
		s := status.Convert(err)
		if !strings.Contains(s.Message(), b.Ceph.FSID) || !strings.Contains(s.Message(), "step") {
			b.Errorf("%s names no cluster, or no step: %v", c, err)
		}
		answer = s.Code().String() + ": " + s.Message()
	}
	fmt.Printf("  %-68s %6s  %.130s\n", c, longest.Round(10*time.Millisecond), answer)
}

// recovers repeats each call until it succeeds, and takes all down again.
func (b *bench) recovers() {
	ctx, cancel := context.WithTimeout(b.Context(), 90*time.Second)
	defer cancel()
	for _, c := range b.calls {
		require.NoError(b, state.Eventually(ctx, func() error {
			ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
			defer cancel()
			_, err := c.RPC.Call(ctx, b, c.req)
			return err
		}), "%s", c)
	}
	for _, c := range b.calls {
		require.NoError(b, state.Eventually(ctx, c.env.Clean), "%s", c)
	}
	require.NoError(b, state.Eventually(ctx, func() error {
		left, err := b.Left(ctx)
		if err == nil && left != "" {
			err = errors.New("this is left:\n" + left)
		}
		return err
	}))
}
