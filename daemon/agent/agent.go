// Package agent is what runs on every node: it publishes the node's disks and
// attach methods as the NodeStorage that bears the node's name.
package agent

import (
	"context"
	"fmt"
	"sync/atomic"
	"time"

	"github.com/go-logr/logr"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/equality"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

const (
	// settle is how long after a kernel event udev has to name the device.
	settle = time.Second
	// recheck is how often a status that did not change is compared with the
	// one in Kubernetes, in case somebody deleted or edited it.
	recheck = time.Minute
	// healthyFor is how long after its last success the agent is healthy.
	healthyFor = 3 * time.Minute
)

// Agent keeps one node's NodeStorage as the node is.
type Agent struct {
	Client   client.Client
	Node     string
	Interval time.Duration
	// Devices takes the inventory.
	Devices func(ctx context.Context) ([]v1alpha1.Device, error)
	// Probe says how the node can attach volumes, best first.
	Probe func() []v1alpha1.AttachMethod
	// Encryption says whether the node can encrypt devices.
	Encryption func() *v1alpha1.NodeEncryption
	// Events brings an inventory forward; may be nil.
	Events <-chan struct{}
	Log    logr.Logger

	written   v1alpha1.NodeStorageStatus
	compared  time.Time
	succeeded atomic.Int64 // Unix time
}

// Run publishes until the context ends. A failure is logged and tried again.
func (a *Agent) Run(ctx context.Context) error {
	a.succeeded.Store(time.Now().Unix())
	tick := time.NewTicker(a.Interval)
	defer tick.Stop()
	settled := time.NewTimer(0)
	defer settled.Stop()
	for {
		select {
		case <-ctx.Done():
			return nil
		case <-a.Events:
			settled.Reset(settle)
			continue
		case <-settled.C:
		case <-tick.C:
		}
		if err := a.Publish(ctx); err != nil && ctx.Err() == nil {
			a.Log.Error(err, "cannot publish what the node has")
		}
	}
}

// Publish looks once, and writes when something changed.
func (a *Agent) Publish(ctx context.Context) error {
	devices, err := a.Devices(ctx)
	if err != nil {
		return fmt.Errorf("take the inventory: %w", err)
	}
	status := statusOf(devices, a.Probe())
	if status.Encryption = a.written.Encryption; status.Encryption == nil || !status.Encryption.Available {
		status.Encryption = a.Encryption()
	}
	if !a.isCurrent(status) {
		if err := a.write(ctx, status); err != nil {
			return err
		}
		a.written, a.compared = status, time.Now()
	}
	a.succeeded.Store(time.Now().Unix())
	return nil
}

// Healthy is nil while publishing works.
func (a *Agent) Healthy() error {
	if since := time.Since(time.Unix(a.succeeded.Load(), 0)); since > healthyFor {
		return fmt.Errorf("nothing published for %s", since.Round(time.Second))
	}
	return nil
}

func (a *Agent) isCurrent(status v1alpha1.NodeStorageStatus) bool {
	return time.Since(a.compared) < recheck && equality.Semantic.DeepEqual(a.written, status)
}

// write makes the NodeStorage and its status as they should be.
func (a *Agent) write(ctx context.Context, status v1alpha1.NodeStorageStatus) error {
	object, err := a.ensure(ctx)
	if err != nil {
		return err
	}
	if equality.Semantic.DeepEqual(object.Status, status) {
		return nil
	}
	object.Status = status
	if err := a.Client.Status().Update(ctx, object); err != nil {
		return fmt.Errorf("write the status of NodeStorage %s: %w", a.Node, err)
	}
	a.Log.Info("published", "devices", status.Summary.Devices, "attach", status.Summary.Attach)
	return nil
}

// ensure returns the node's NodeStorage, which goes when the node goes.
func (a *Agent) ensure(ctx context.Context) (*v1alpha1.NodeStorage, error) {
	var node corev1.Node
	if err := a.Client.Get(ctx, types.NamespacedName{Name: a.Node}, &node); err != nil {
		return nil, fmt.Errorf("get node %s: %w", a.Node, err)
	}
	owner := metav1.OwnerReference{APIVersion: "v1", Kind: "Node", Name: node.Name, UID: node.UID}
	object := &v1alpha1.NodeStorage{ObjectMeta: metav1.ObjectMeta{Name: a.Node}}
	err := a.Client.Get(ctx, types.NamespacedName{Name: a.Node}, object)
	if apierrors.IsNotFound(err) {
		object.OwnerReferences = []metav1.OwnerReference{owner}
		err = a.Client.Create(ctx, object)
	} else if err == nil && !equality.Semantic.DeepEqual(object.OwnerReferences, []metav1.OwnerReference{owner}) {
		object.OwnerReferences = []metav1.OwnerReference{owner}
		err = a.Client.Update(ctx, object)
	}
	if err != nil {
		return nil, fmt.Errorf("make NodeStorage %s: %w", a.Node, err)
	}
	return object, nil
}
