package pool

import (
	"context"
	"errors"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/crush"
	"github.com/cairn-storage/cairn/operator/cluster"
)

// Foresee says what a BlockPool with this spec leads to, or why nothing is done. It
// reads, and writes nothing.
func (r *Reconciler) Foresee(ctx context.Context, pool *v1alpha1.BlockPool) (f *cluster.Foresight, problem string, err error) {
	o, err := r.observe(ctx, pool)
	var s *stop
	if errors.As(err, &s) && s.reason == v1alpha1.ReasonCephUnreachable {
		select { // the connection is being opened
		case <-r.Connections.Wake:
		case <-ctx.Done():
			return nil, s.message, nil
		}
		o, err = r.observe(ctx, pool)
	}
	if err == nil {
		err = o.sound()
	}
	if err == nil {
		err = allowed(ctx, o, spec(pool))
	}
	switch {
	case errors.As(err, &s):
		return nil, s.message, nil
	case err != nil:
		return nil, "", err
	}
	f = &cluster.Foresight{}
	f.Steps, _ = o.plan()
	weigh(ctx, o, f)
	return f, "", nil
}

// weigh says how much data the foreseen steps move. A plan without that is still one.
func weigh(ctx context.Context, o *Observed, f *cluster.Foresight) {
	var names []string
	change, want := crush.PoolChange{}, spec(o.Pool)
	for _, s := range f.Steps {
		if s.Risk.Held() {
			names = append(names, s.Name)
		}
		if s.Name == "placement" {
			change.FailureDomain, change.DeviceClass = want.FailureDomain, want.DeviceClass
		}
	}
	if len(names) == 0 {
		return
	}
	change.Size = want.Size
	now, err := o.Conn.Placement(ctx)
	var moved []crush.Movement
	if err == nil {
		moved, err = crush.Predict(ctx, now, crush.Change{Pools: map[string]crush.PoolChange{want.Name: change}})
	}
	if err != nil {
		f.MovesUnknown = err.Error()
		return
	}
	f.Moves = []cluster.Move{{Steps: names, Movement: moved[0]}}
}
