package cluster

import (
	"context"
	"fmt"
	"sync"

	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// together bounds how many steps of one kind are done at once: each waits for
// the API server, or for the mons to agree, and hundreds one after the other
// would hold up all the rest.
const together = 16

// kind of a step that may be done beside others of its kind; empty when it is
// done alone. Those of OSDs may, which do not know of each other: mons are made in
// order, so that those that there are when the operator is killed are the first.
func (s *Step) kind() string {
	switch {
	case s.NewOSD != nil:
		return "new OSD"
	case len(s.Apply) == 1 && len(s.Delete) == 0 && s.Apply[0].GetLabels()[kube.LabelComponent] == osd.Component:
		return fmt.Sprintf("%T", s.Apply[0])
	}
	return ""
}

// batches of steps that nothing holds up, as places in the list: each is done
// as a whole before the next begins.
func batches(steps []Step) (out [][]int) {
	last := ""
	for i := range steps {
		if steps[i].Wait || steps[i].Gate != "" {
			continue
		}
		if kind := steps[i].kind(); kind == "" || kind != last {
			out, last = append(out, nil), kind
		}
		out[len(out)-1] = append(out[len(out)-1], i)
	}
	return out
}

// doTogether does the steps of a batch, and says of each that failed why.
func (r *Reconciler) doTogether(ctx context.Context, o *Observed, steps []Step, batch []int) {
	if len(batch) == 1 {
		steps[batch[0]].Failed = r.do(ctx, o, steps[batch[0]])
		return
	}
	o.osd("") // what is looked up is made once; from here on it is only read
	var all sync.WaitGroup
	slots, panics := make(chan struct{}, together), make(chan any, len(batch))
	for _, i := range batch {
		slots <- struct{}{}
		all.Go(func() {
			defer func() {
				if cause := recover(); cause != nil {
					panics <- cause
				}
				<-slots
			}()
			steps[i].Failed = r.do(ctx, o, steps[i])
		})
	}
	all.Wait()
	select {
	case cause := <-panics: // it ends what the caller does, as any other would
		panic(cause)
	default:
	}
}
