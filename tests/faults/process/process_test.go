// Package process kills the driver's processes on a real Ceph, with real mounts,
// at random moments of each RPC. It needs root and Ceph: run it in the build root.
package process

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strconv"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
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

// kills of each case, and for how long all may take before what is left of the
// cases gets no more kills than one. CAIRN_KILLS asks for more, however long it takes.
const (
	kills  = 3
	budget = 50 * time.Second
)

// timeouts of the driver's connections: what a killed process had begun is taken
// for abandoned after three times that of an OSD.
var timeouts = ceph.ConnectOptions{MonTimeout: 10 * time.Second, OSDTimeout: 2 * time.Second}

type bench struct {
	*testing.T
	*driver.Driver
	random *rand.Rand
	kills  int
	until  time.Time // zero: without a bound
}

// A process that is killed at any moment of a call leaves nothing that its next
// run does not bring to where it would have been.
func TestKilledAnywhere(t *testing.T) {
	seed := uint64(setting(t, "CAIRN_SEED", time.Now().Unix()))
	fmt.Printf("kills: at moments of CAIRN_SEED=%d\n", seed)
	b := newBench(t, seed)
	fmt.Printf("kills: %-63s kills passed\n", "RPC")
	start, all := time.Now(), 0
	for _, rpc := range scenario.RPCs() {
		offered, why, err := rpc.Offered(t.Context(), b)
		require.NoError(t, err)
		if !offered {
			fmt.Printf("  %-68s not offered: %s\n", rpc.Service+"."+rpc.Name, why)
			continue
		}
		for _, c := range scenario.Cases(rpc) {
			n := b.times()
			passed := t.Run(c.String(), func(t *testing.T) {
				took, err := b.kill(c, n)
				var lacks *scenario.NotOffered
				if errors.As(err, &lacks) {
					fmt.Printf("  %-68s not offered: %s\n", c, lacks)
					return
				}
				require.NoError(t, err, "%s\n%s", b.Said(driver.Controller), b.Said(driver.Node))
				fmt.Printf("  %-68s %5d %6d  within %s\n", c, n, n, took.Round(time.Millisecond))
				all += n
			})
			if !passed {
				return // what it left is in the way of the others
			}
		}
		b.leavesNothing(rpc)
	}
	fmt.Printf("  %d kills (seed %d), in %s; nothing is left of any\n", all, seed, time.Since(start).Round(time.Second))
}

// setting is a number from the environment.
func setting(t *testing.T, name string, otherwise int64) int64 {
	text := os.Getenv(name)
	if text == "" {
		return otherwise
	}
	n, err := strconv.ParseInt(text, 10, 64)
	require.NoError(t, err, name)
	return n
}

// times is how often the next case is killed.
func (b *bench) times() int {
	if !b.until.IsZero() && time.Now().After(b.until) {
		return 1
	}
	return b.kills
}

func newBench(t *testing.T, seed uint64) *bench {
	ctx, cancel := context.WithTimeout(t.Context(), time.Minute)
	defer cancel()
	cluster, err := localceph.Start(ctx, t.TempDir(), localceph.Options{OSDs: 1})
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, cluster.Stop()) })
	d, err := driver.Start(ctx, cluster, t.TempDir(), timeouts)
	require.NoError(t, err)
	t.Cleanup(func() { require.NoError(t, d.Stop()) })
	b := &bench{T: t, Driver: d, random: rand.New(rand.NewPCG(seed, seed)), kills: int(setting(t, "CAIRN_KILLS", 0))}
	if b.kills == 0 {
		b.kills, b.until = kills, time.Now().Add(budget)
	}
	return b
}

// outcome of a case.
type outcome struct{ answer, after string }

var cases int

// kill carries a case out without a fault, and then with kills at random moments
// of what that took.
func (b *bench) kill(c scenario.Case, n int) (time.Duration, error) {
	twin, took, err := b.carryOut(c, -1, nil)
	if err != nil {
		return 0, err
	}
	for range n {
		after := time.Duration(b.random.Int64N(int64(took) + int64(took)/5 + 1))
		if _, _, err := b.carryOut(c, after, &twin); err != nil {
			return 0, fmt.Errorf("killed after %s: %w", after, err)
		}
	}
	return took, nil
}

func (b *bench) carryOut(c scenario.Case, killed time.Duration, twin *outcome) (o outcome, took time.Duration, err error) {
	ctx, cancel := context.WithTimeout(b.Context(), 2*time.Minute)
	defer cancel()
	cases++
	name := fmt.Sprintf("case%04d", cases)
	env := b.Env(name)
	var req proto.Message
	if err := scenario.Try(func() { req = c.Prepare(env) }); err != nil {
		return o, 0, errors.Join(err, env.Clean())
	}
	start := time.Now()
	answer, err := b.call(ctx, c, req, killed)
	took = time.Since(start)
	if err != nil {
		return o, 0, err
	}
	o.answer = strings.ReplaceAll(state.Answer(answer), name, "case")
	if o.after, err = b.settled(ctx, name, twin); err != nil {
		return o, 0, err
	}
	if twin != nil && o.answer != twin.answer {
		return o, 0, fmt.Errorf("the answer differs from the run without a fault:\n%s", state.Difference(o.answer, twin.answer))
	}
	if err := state.Eventually(ctx, env.Clean); err != nil {
		return o, 0, err
	}
	_, err = b.settled(ctx, name, &outcome{})
	return o, took, err
}

// call makes the call, kills its process meanwhile, and repeats until it succeeds.
func (b *bench) call(ctx context.Context, c scenario.Case, req proto.Message, killed time.Duration) (answer proto.Message, err error) {
	if killed < 0 {
		return c.RPC.Call(ctx, b, req)
	}
	called := make(chan struct{})
	go func() {
		defer close(called)
		answer, err = c.RPC.Call(ctx, b, req)
	}()
	time.Sleep(killed)
	role := driver.Serving(c.RPC.Method())
	b.Kill(role)
	<-called
	if restarted := b.Restart(ctx, role); restarted != nil || err == nil {
		return answer, restarted
	}
	err = state.Eventually(ctx, func() (err error) {
		ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
		defer cancel()
		answer, err = c.RPC.Call(ctx, b, req)
		return err
	})
	return answer, err
}

// calm is for how long the state without a fault does not change any more; an
// image that was deleted may still be removed.
func calm(text string) time.Duration {
	if strings.Contains(text, "(hidden)") {
		return 1500 * time.Millisecond
	}
	return 250 * time.Millisecond
}

// settled returns the state, once it is that of the run without a fault; of that
// run itself, once nothing changes any more.
func (b *bench) settled(ctx context.Context, name string, twin *outcome) (text string, err error) {
	ctx, cancel := context.WithTimeout(ctx, 20*time.Second)
	defer cancel()
	err = state.Eventually(ctx, func() error {
		before := text
		if text, err = b.State(ctx, name); err != nil {
			return err
		}
		if twin == nil {
			time.Sleep(calm(text))
			if strings.Contains(text, state.NoImage) {
				return errors.New("an image is being removed")
			}
			return differs(text, before)
		}
		return differs(text, twin.after)
	})
	return text, err
}

func differs(got, want string) error {
	if got == want {
		return nil
	}
	return fmt.Errorf("the state differs from the run without a fault:\n%s", state.Difference(got, want))
}

func (b *bench) leavesNothing(after scenario.RPC) {
	ctx, cancel := context.WithTimeout(b.Context(), time.Minute)
	defer cancel()
	require.NoError(b, state.Eventually(ctx, func() error {
		left, err := b.Left(ctx)
		if err == nil && left != "" {
			err = errors.New("this is left:\n" + left)
		}
		return err
	}), "after %s.%s", after.Service, after.Name)
}
