package simulation

import (
	"context"
	"fmt"
	"reflect"
	"strings"
	"sync"

	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"
)

// answers are what the API server has said, by kind and by what it was asked. They hold
// until something of that kind is written: nobody but the worlds of this process writes
// to it. Most looks in a test find nothing new, and asking was most of its time.
type answers struct {
	sync.Mutex
	// written counts the beginnings and the ends of writes.
	written int
	kinds   map[string]map[string]answer
}

type answer struct {
	object runtime.Object
	err    error
}

// known are the answers of this process's one API server.
var known = answers{kinds: map[string]map[string]answer{}}

// answered is a client that asks the API server only what it does not know.
func (a *answers) answered(c client.WithWatch) client.WithWatch {
	kind := func(o runtime.Object) string {
		gvk, err := c.GroupVersionKindFor(o)
		if err != nil {
			return fmt.Sprintf("%T", o)
		}
		return strings.TrimSuffix(gvk.Kind, "List")
	}
	return interceptor.NewClient(c, interceptor.Funcs{
		Get: func(ctx context.Context, c client.WithWatch, key client.ObjectKey, o client.Object, opts ...client.GetOption) error {
			return a.read(kind(o), fmt.Sprintf("%T %s %v", o, key, opts), o, func() error { return c.Get(ctx, key, o, opts...) })
		},
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			asked := client.ListOptions{}
			asked.ApplyOptions(opts)
			return a.read(kind(list), fmt.Sprintf("%T %s %s", list, asked.Namespace, asked.AsListOptions()), list, func() error { return c.List(ctx, list, opts...) })
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return a.write(kind(o), func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return a.write(kind(o), func() error { return c.Update(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return a.write(kind(o), func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return a.write(kind(o), func() error { return c.Delete(ctx, o, opts...) })
		},
		DeleteAllOf: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteAllOfOption) error {
			return a.write(kind(o), func() error { return c.DeleteAllOf(ctx, o, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return a.write(kindApplied(o), func() error { return c.Apply(ctx, o, opts...) })
		},
		SubResourceCreate: func(ctx context.Context, c client.Client, sub string, o, subresource client.Object, opts ...client.SubResourceCreateOption) error {
			// That of an eviction is counted in the pod's budget.
			return a.write("", func() error { return c.SubResource(sub).Create(ctx, o, subresource, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return a.write(kind(o), func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return a.write(kind(o), func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
		SubResourceApply: func(ctx context.Context, c client.Client, sub string, o runtime.ApplyConfiguration, opts ...client.SubResourceApplyOption) error {
			return a.write(kindApplied(o), func() error { return c.SubResource(sub).Apply(ctx, o, opts...) })
		},
	})
}

func (a *answers) read(kind, question string, into runtime.Object, ask func() error) error {
	a.Lock()
	before := a.written
	if known, found := a.kinds[kind][question]; found {
		defer a.Unlock()
		if known.err != nil {
			return known.err
		}
		reflect.ValueOf(into).Elem().Set(reflect.ValueOf(known.object.DeepCopyObject()).Elem())
		return nil
	}
	a.Unlock()
	err := ask()
	if err != nil && !apierrors.IsNotFound(err) {
		return err
	}
	a.Lock()
	defer a.Unlock()
	// Of what is written meanwhile the answer may or may not tell.
	if a.written == before {
		if a.kinds[kind] == nil {
			a.kinds[kind] = map[string]answer{}
		}
		a.kinds[kind][question] = answer{into.DeepCopyObject(), err}
	}
	return err
}

func (a *answers) write(kind string, do func() error) error {
	a.forget(kind)
	defer a.forget(kind)
	return do()
}

// forget what was said of a kind; of all where that is not known.
func (a *answers) forget(kind string) {
	a.Lock()
	defer a.Unlock()
	a.written++
	if kind == "" {
		clear(a.kinds)
	}
	delete(a.kinds, kind)
}

func kindApplied(o runtime.ApplyConfiguration) string {
	if kinded, ok := o.(interface{ GetKind() string }); ok {
		return kinded.GetKind()
	}
	return ""
}
