package main

import (
	"context"
	"errors"
	"fmt"
	"syscall"
	"time"

	"k8s.io/apimachinery/pkg/runtime"
	"k8s.io/apimachinery/pkg/watch"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
	"sigs.k8s.io/controller-runtime/pkg/manager"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph/model"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
	"github.com/cairn-storage/cairn/operator/process"
)

// operator is the reconciler of StorageClusters over a manager's cache, whose
// writes are counted.
type operator struct {
	reconciler *cluster.Reconciler
	modelled   *model.Cluster
	into       *measured
}

func newOperator(mgr manager.Manager, modelled *model.Cluster, options process.Options, into *measured) *operator {
	o := &operator{modelled: modelled, into: into}
	o.reconciler = &cluster.Reconciler{Client: counting(mgr.GetClient(), into), Live: mgr.GetAPIReader(),
		Connections: connection.NewManager(modelled), Namespace: options.Namespace, Image: options.Image}
	return o
}

// counting records the writes of a client.
func counting(c client.Client, into *measured) client.Client {
	wrote := func(verb string, object any) { into.Writes = append(into.Writes, fmt.Sprintf("%s %T", verb, object)) }
	// Watching is for informers: the manager has its own.
	return interceptor.NewClient(noWatch{c}, interceptor.Funcs{
		Create: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.CreateOption) error {
			wrote("create", object)
			return c.Create(ctx, object, options...)
		},
		Update: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.UpdateOption) error {
			wrote("update", object)
			return c.Update(ctx, object, options...)
		},
		Delete: func(ctx context.Context, c client.WithWatch, object client.Object, options ...client.DeleteOption) error {
			wrote("delete", object)
			return c.Delete(ctx, object, options...)
		},
		Patch: func(ctx context.Context, c client.WithWatch, object client.Object, patch client.Patch, options ...client.PatchOption) error {
			wrote("patch", object)
			return c.Patch(ctx, object, patch, options...)
		},
		Apply: func(ctx context.Context, c client.WithWatch, object runtime.ApplyConfiguration, options ...client.ApplyOption) error {
			wrote("apply", object)
			return c.Apply(ctx, object, options...)
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, object client.Object, patch client.Patch, options ...client.SubResourcePatchOption) error {
			wrote("patch "+sub+" of", object)
			return c.SubResource(sub).Patch(ctx, object, patch, options...)
		},
	})
}

type noWatch struct{ client.Client }

func (noWatch) Watch(context.Context, client.ObjectList, ...client.ListOption) (watch.Interface, error) {
	return nil, fmt.Errorf("not watched here")
}

// settle looks until nothing is left to do.
func (o *operator) settle(ctx context.Context, key client.ObjectKey) error {
	ctx, cancel := context.WithTimeout(ctx, 3*time.Minute)
	defer cancel()
	for {
		before := len(o.into.Writes)
		c := &v1alpha1.StorageCluster{}
		if err := errors.Join(o.look(ctx, key), o.reconciler.Live.Get(ctx, key, c)); err != nil {
			return err
		}
		if c.Status.Blocker == nil && len(c.Status.Plan) == 0 && len(o.into.Writes) == before && c.Status.OSDs.Ready == c.Status.OSDs.Desired && c.Status.OSDs.Ready > 0 {
			o.into.Writes = o.into.Writes[:0]
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("the operator does not come to rest: %+v: %w", c.Status, ctx.Err())
		case <-time.After(200 * time.Millisecond):
		}
	}
}

// looks times whole reconciles.
func (o *operator) looks(ctx context.Context, key client.ObjectKey) error {
	cephWrites, busy := o.cephWrites(), processor()
	for range looks {
		began := time.Now()
		if err := o.look(ctx, key); err != nil {
			return err
		}
		o.into.Looks = append(o.into.Looks, milliseconds(time.Since(began)))
	}
	o.into.CPU = milliseconds(processor()-busy) / looks
	for range o.cephWrites() - cephWrites {
		o.into.Writes = append(o.into.Writes, "ceph")
	}
	return nil
}

func (o *operator) look(ctx context.Context, key client.ObjectKey) error {
	c := &v1alpha1.StorageCluster{}
	if err := o.reconciler.Client.Get(ctx, key, c); err != nil {
		return err
	}
	_, err := o.reconciler.Reconcile(ctx, c)
	return err
}

// cephWrites are the calls that are none of the questions of a look.
func (o *operator) cephWrites() (n int) {
	for op, times := range o.modelled.Calls() {
		if op != "Status" && op != "OSDs" && op != "Pools" {
			n += times
		}
	}
	return n
}

// processor is how long the process has run on processors.
func processor() time.Duration {
	var used syscall.Rusage
	if err := syscall.Getrusage(syscall.RUSAGE_SELF, &used); err != nil {
		return 0
	}
	return time.Duration(used.Utime.Nano() + used.Stime.Nano())
}
