package cluster

import (
	"context"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/crush"
)

// Move is the data that Ceph moves because of some steps, which come at the same time.
type Move struct {
	Steps []string `json:"steps"`
	crush.Movement
}

// movement is what the steps of one look change in the placement of data.
type movement struct {
	steps []string
	crush.Change
}

// changing is the change of the look that goes on, to which a step belongs.
func (w *imagined) changing(s Step) *movement {
	c := &w.changes[len(w.changes)-1]
	c.steps = append(c.steps, s.Name)
	return c
}

func (c *movement) added(known *ceph.OSD, location string, weight float64) {
	if known != nil && location != "" {
		c.Add = append(c.Add, crush.NewOSD{ID: known.ID, Bytes: known.BytesTotal, Weight: weight, Class: known.Class, Location: strings.Fields(location)})
	}
}

func (c *movement) set(out SetOut) {
	if c.In == nil {
		c.In = map[int]float64{}
	}
	c.In[out.ID] = 1
	if out.Out {
		c.In[out.ID] = 0
	}
}

// weigh says how much data the foreseen steps move. A plan without that is still one.
func (r *Reconciler) weigh(ctx context.Context, o *Observed, f *Foresight) {
	var changes []crush.Change
	for _, c := range f.changes {
		if len(c.steps) > 0 {
			f.Moves = append(f.Moves, Move{Steps: c.steps})
			changes = append(changes, c.Change)
		}
	}
	if len(changes) == 0 || o.Ceph == nil || o.Ceph.Status.Pools == 0 {
		f.Moves = nil
		return
	}
	moved, err := r.predict(ctx, o, changes)
	if err != nil {
		f.Moves, f.MovesUnknown = nil, err.Error()
		return
	}
	for i := range moved {
		f.Moves[i].Movement = moved[i]
	}
}

func (r *Reconciler) predict(ctx context.Context, o *Observed, changes []crush.Change) (moved []crush.Movement, err error) {
	conn, err := r.Connections.Get(o.Cluster, o.credentials())
	if err != nil {
		return nil, err
	}
	now, err := conn.Placement(ctx)
	if err != nil {
		return nil, err
	}
	return crush.Predict(ctx, now, changes...)
}
