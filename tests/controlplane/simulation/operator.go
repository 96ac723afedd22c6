package simulation

import (
	"context"
	"errors"
	"fmt"
	"math/rand/v2"
	"reflect"
	"slices"
	"sync"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/runtime"
	"sigs.k8s.io/controller-runtime/pkg/client"
	"sigs.k8s.io/controller-runtime/pkg/client/interceptor"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/connection"
)

// operator is what happens to the operator's writes.
type operator struct {
	sync.Mutex // of what follows: it writes several things at once
	works      bool
	writes     []string
	killAt     int
	loseAt     int
	seen       string
	first      map[string]func() // what happens just before a call to Ceph
}

// cephWrites are the calls that change Ceph.
var cephWrites = []string{"NewOSD", "EnsureUser", "RemoveUser", "EnsurePool", "RemovePool", "RemoveMon", "SetConfig", "UnsetConfig", "SetOSDOut", "SetOSDWeight", "PurgeOSD", "DestroyOSD", "RenewOSD", "SetNoOut", "RequireOSDRelease", "PendingKey", "CommitKey"}

type killed struct{ write string }

// errLost is the answer to a write that was made, but whose answer was lost.
var errLost = errors.New("connection reset by peer")

// errNoQuorum is what a client gets from mons that are not quorate.
var errNoQuorum = errors.New("the mons have no quorum")

// KillAt ends the operator just before its n-th write, counted from one.
func (w *World) KillAt(n int) { w.operator.killAt = n }

// LoseAnswerAt makes the n-th write to Kubernetes succeed and answers with an error.
func (w *World) LoseAnswerAt(n int) { w.operator.loseAt = n }

// BeforeCeph has something happen just before the operator's next call of an operation.
func (w *World) BeforeCeph(op string, happens func()) {
	w.operator.first = map[string]func(){op: happens}
}

// Writes that the operator has made, to Kubernetes and to Ceph.
func (w *World) Writes() []string {
	w.operator.Lock()
	defer w.operator.Unlock()
	return slices.Clone(w.operator.writes)
}

// Restart gives the operator a new process's connections.
func (w *World) Restart() { w.Connections = connection.NewManager(w) }

// Operator runs a piece of the operator's work. It reports whether it was
// killed; it is restarted then.
func (w *World) Operator(work func() error) (died bool, err error) {
	w.operator.works = true
	if w.Ceph != nil {
		w.Ceph.FailWith(w.beforeCeph)
	}
	defer func() {
		w.operator.works = false
		if w.Ceph != nil {
			w.Ceph.FailWith(nil)
		}
		switch cause := recover().(type) {
		case nil:
		case killed:
			died = true
			w.Restart()
		default:
			panic(cause)
		}
	}()
	return false, work()
}

func (w *World) beforeCeph(op string) error {
	if w.operator.works && !w.hasQuorum() {
		return &ceph.Error{Kind: ceph.Unreached, Op: op, Err: errNoQuorum}
	}
	if w.operator.works && slices.Contains(cephWrites, op) {
		w.before("ceph " + op)
		if happens := w.operator.take(op); happens != nil {
			happens()
		}
	}
	return nil
}

// take returns what happens before a call of an operation, once.
func (o *operator) take(op string) func() {
	o.Lock()
	defer o.Unlock()
	happens := o.first[op]
	delete(o.first, op)
	return happens
}

// before a write it is counted, and its number returned.
func (w *World) before(write string) int {
	w.operator.Lock()
	defer w.operator.Unlock()
	if len(w.operator.writes)+1 == w.operator.killAt {
		w.operator.killAt = 0
		panic(killed{write})
	}
	w.operator.writes = append(w.operator.writes, write)
	return len(w.operator.writes)
}

func (w *World) made(write string, do func() error) error {
	number := w.before(write)
	err := do()
	if w.drains.hasty {
		w.evictAll()
	}
	w.operator.Lock()
	defer w.operator.Unlock()
	if err == nil && number == w.operator.loseAt {
		w.operator.loseAt = 0
		return errLost
	}
	return err
}

// Connect is the operator's way to Ceph.
func (w *World) Connect(ctx context.Context, cred ceph.Credentials, options ceph.ConnectOptions) (ceph.Conn, error) {
	if !w.hasQuorum() {
		return nil, &ceph.Error{Kind: ceph.Unreached, Op: "connect", Err: errNoQuorum}
	}
	return w.Ceph.Connect(ctx, cred, options)
}

// Connected waits for the connection that the operator opens in the background,
// where there is a quorum to connect to.
func (w *World) Connected(owner *v1alpha1.StorageCluster) {
	if !w.hasQuorum() {
		return
	}
	cred, err := cluster.Credentials(w.context(), w.Client, owner)
	if err != nil {
		return // nor has the operator what to connect with
	}
	for {
		_, err := w.Connections.Get(owner, cred)
		if err == nil {
			return
		}
		if !errors.Is(err, errNoQuorum) {
			<-w.Connections.Wake
		}
	}
}

// OperatorClient is the operator's: its writes are counted and may fail, and its lists have
// another order each time, as those of a cache have.
func (w *World) OperatorClient() client.Client {
	return interceptor.NewClient(w.Client, interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if err := c.List(ctx, list, opts...); err != nil {
				return err
			}
			items, err := meta.ExtractList(list)
			if err != nil {
				return err
			}
			rand.Shuffle(len(items), func(i, j int) { items[i], items[j] = items[j], items[i] })
			return meta.SetList(list, items)
		},
		Create: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.CreateOption) error {
			return w.made(describe("create", o), func() error { return c.Create(ctx, o, opts...) })
		},
		Update: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.UpdateOption) error {
			return w.made(describe("update", o), func() error { return c.Update(ctx, o, opts...) })
		},
		Delete: func(ctx context.Context, c client.WithWatch, o client.Object, opts ...client.DeleteOption) error {
			return w.made(describe("delete", o), func() error { return c.Delete(ctx, o, opts...) })
		},
		Patch: func(ctx context.Context, c client.WithWatch, o client.Object, p client.Patch, opts ...client.PatchOption) error {
			return w.made(describe("patch", o), func() error { return c.Patch(ctx, o, p, opts...) })
		},
		Apply: func(ctx context.Context, c client.WithWatch, o runtime.ApplyConfiguration, opts ...client.ApplyOption) error {
			return w.made(fmt.Sprintf("apply %s", named(o)), func() error { return c.Apply(ctx, o, opts...) })
		},
		SubResourcePatch: func(ctx context.Context, c client.Client, sub string, o client.Object, p client.Patch, opts ...client.SubResourcePatchOption) error {
			return w.made(describe("patch "+sub+" of", o), func() error { return c.SubResource(sub).Patch(ctx, o, p, opts...) })
		},
		SubResourceUpdate: func(ctx context.Context, c client.Client, sub string, o client.Object, opts ...client.SubResourceUpdateOption) error {
			return w.made(describe("update "+sub+" of", o), func() error { return c.SubResource(sub).Update(ctx, o, opts...) })
		},
	})
}

// LaggingClient is OperatorClient over a cache that lags: its lists are as they
// were when Remember was last called. Where kinds are given only theirs are, as when
// the watches of these were dropped unnoticed.
func (w *World) LaggingClient(kinds ...client.ObjectList) client.Client {
	lags := map[reflect.Type]bool{}
	for _, kind := range kinds {
		lags[reflect.TypeOf(kind)] = true
	}
	return interceptor.NewClient(w.OperatorClient().(client.WithWatch), interceptor.Funcs{
		List: func(ctx context.Context, c client.WithWatch, list client.ObjectList, opts ...client.ListOption) error {
			if len(lags) > 0 && !lags[reflect.TypeOf(list)] {
				return c.List(ctx, list, opts...)
			}
			then := &client.ListOptions{Raw: &metav1.ListOptions{ResourceVersion: w.operator.seen, ResourceVersionMatch: metav1.ResourceVersionMatchExact}}
			return c.List(ctx, list, append([]client.ListOption{then}, opts...)...)
		},
	})
}

// Remember makes a lagging client see the world as it is now.
func (w *World) Remember() {
	var namespaces corev1.NamespaceList
	require.NoError(w.t, w.server.List(w.context(), &namespaces))
	w.operator.seen = namespaces.ResourceVersion
}

func describe(verb string, o client.Object) string {
	return fmt.Sprintf("%s %T %s", verb, o, o.GetName())
}

func named(o any) string {
	if object, ok := o.(interface {
		GetKind() string
		GetName() string
	}); ok {
		return object.GetKind() + " " + object.GetName()
	}
	return fmt.Sprintf("%T", o)
}
