package crash

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"testing/synctest"

	"google.golang.org/grpc/codes"
	"google.golang.org/grpc/status"
	"google.golang.org/protobuf/proto"

	"github.com/cairn-storage/cairn/tests/faults/scenario"
	"github.com/cairn-storage/cairn/tests/faults/state"
)

// tries is how often a call that fails is repeated.
const tries = 12

// outcome is what a run of a case came to.
type outcome struct {
	// answer of the call, the state after it, and after all was taken down again.
	answer, after, end string
	// where the faults were.
	where []string
}

// way is how one goes on after the fault.
type way int

const (
	retry   way = iota // repeat the call until it succeeds, then take all down
	abandon            // take all down at once
)

// carryOut runs a case in a new world, which has a time of its own.
func carryOut(t *testing.T, c scenario.Case, fault Fault, at []int, m mutant, w way) (o outcome, err error) {
	synctest.Test(t, func(*testing.T) { o, err = inWorld(c, newPlan(fault, at...), m, w) })
	return o, err
}

func inWorld(c scenario.Case, p *plan, m mutant, w way) (outcome, error) {
	dir, err := os.MkdirTemp("", "cairn-crash-*")
	if err != nil {
		return outcome{}, err
	}
	defer func() { _ = os.RemoveAll(dir) }()
	ctx := context.Background()
	world, err := newWorld(ctx, dir, p, m)
	if err != nil {
		return outcome{}, err
	}
	defer world.end()
	return world.run(ctx, c, w)
}

func (w *world) run(ctx context.Context, c scenario.Case, then way) (o outcome, err error) {
	env := &scenario.Env{Conn: w, Cluster: w.direct, FSID: fsid, Pool: pool, Dir: w.kubelet(), NodeID: nodeID, Name: "case"}
	if env.Claimed, err = scenario.Claimed(ctx, w); err != nil {
		return o, err
	}
	var req proto.Message
	if err := scenario.Try(func() { req = c.Prepare(env) }); err != nil {
		return o, fmt.Errorf("prepare: %w", err)
	}
	settle(soon)
	answer, err := w.faulty(ctx, c, req, then)
	o.where = w.plan.reached()
	if err != nil {
		return o, err
	}
	if answer != nil {
		o.answer = state.Answer(answer)
	}
	settle(late)
	if o.after, err = w.state(ctx); err != nil {
		return o, err
	}
	if err := w.clean(env); err != nil {
		return o, fmt.Errorf("take down: %w", err)
	}
	o.end, err = w.state(ctx)
	return o, err
}

// faulty makes the call with the faults planted, and goes on until it succeeds
// and all work in the background is done.
func (w *world) faulty(ctx context.Context, c scenario.Case, req proto.Message, then way) (proto.Message, error) {
	w.plan.arm(true)
	defer w.plan.arm(false)
	answer, err := w.attempt(ctx, c, req)
	for range tries {
		if err := w.recover(); err != nil {
			return nil, err
		}
		if err == nil || then == abandon {
			return answer, nil
		}
		answer, err = w.attempt(ctx, c, req)
	}
	return nil, fmt.Errorf("the call fails still after %d tries: %w", tries, err)
}

// attempt makes the call once. A process that dies gives no answer.
func (w *world) attempt(ctx context.Context, c scenario.Case, req proto.Message) (proto.Message, error) {
	ctx, cancel := context.WithTimeout(ctx, scenario.Patience)
	defer cancel()
	if w.plan.fault == Kill {
		hit := w.plan.next()
		go func() {
			select {
			case <-hit:
				cancel()
			case <-ctx.Done():
			}
		}()
	}
	return c.RPC.Call(ctx, w, req)
}

// recover starts what died, as often as it dies again, and lets the work in the
// background end.
func (w *world) recover() error {
	for range tries {
		w.bury()
		if err := w.revive(); err != nil {
			return err
		}
		settle(soon)
		if !w.controller.life.isDead() && !w.node.life.isDead() {
			return nil
		}
	}
	return fmt.Errorf("a process dies again and again")
}

func (w *world) clean(env *scenario.Env) error {
	var err error
	for range tries {
		err = env.Clean()
		settle(late)
		if code := status.Code(err); code != codes.Aborted && code != codes.Unavailable {
			return err
		}
	}
	return err
}

// differs compares a run with a fault with one without.
func (o outcome) differs(twin outcome, then way) error {
	compare := func(what, got, want string) error {
		if got == want {
			return nil
		}
		return fmt.Errorf("%s differs from the run without a fault:\n%s", what, state.Difference(got, want))
	}
	if err := compare("what is left at the end", o.end, twin.end); err != nil || then == abandon {
		return err
	}
	return errors.Join(compare("the state", o.after, twin.after), compare("the answer", o.answer, twin.answer))
}

// Result is what came of all boundaries of a case.
type Result struct {
	Case scenario.Case
	// Boundaries is how many there are, Runs how many runs with a fault were
	// compared; each passed that is not in Failures.
	Boundaries, Runs int
	Failures         []error
}

// sweep carries a case out once for each boundary and each kind of fault, until
// a run ends before the fault comes.
func sweep(t *testing.T, c scenario.Case, m mutant, kinds ...kind) (r Result, err error) {
	r.Case = c
	twin, err := carryOut(t, c, Kill, nil, m, retry)
	if err != nil {
		return r, err
	}
	if twin.end != "" {
		return r, fmt.Errorf("without a fault this is left:\n%s", twin.end)
	}
	random := rand.New(rand.NewPCG(1, 2))
	for _, k := range kinds {
		for at := 1; ; at++ {
			where := []int{at}
			if k.again {
				where = append(where, 1+random.IntN(max(1, r.Boundaries)))
			}
			got, err := carryOut(t, c, k.fault, where, m, k.then)
			if len(got.where) == 0 {
				if err != nil {
					return r, err
				}
				r.Boundaries = max(r.Boundaries, at-1)
				break
			}
			if err == nil {
				if k.fault == Fail && strings.HasSuffix(c.RPC.Name, "Health") {
					got.answer = twin.answer // health tells of the fault
				}
				err = got.differs(twin, k.then)
			}
			r.Runs++
			if err != nil {
				r.Failures = append(r.Failures, fmt.Errorf("%s, %s at %v: %w", c, k.name, got.where, err))
			}
		}
	}
	return r, nil
}

// kind is a way to plant faults.
type kind struct {
	name  string
	fault Fault
	then  way
	again bool // a second fault while it recovers from the first
}

var kinds = []kind{
	{name: "killed and repeated", fault: Kill},
	{name: "killed and given up", fault: Kill, then: abandon},
	{name: "killed twice", fault: Kill, again: true},
	{name: "answer lost", fault: Fail},
}
