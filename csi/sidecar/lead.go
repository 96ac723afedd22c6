package sidecar

import (
	"context"
	"errors"
	"fmt"
	"time"

	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/tools/leaderelection"
	"k8s.io/client-go/tools/leaderelection/resourcelock"
	"k8s.io/klog/v2"
)

// leaseName is the one Lease of the controller processes.
const leaseName = "cairn-csi-controller"

// lease is what a process must hold to lead.
type lease struct {
	client                    kubernetes.Interface
	namespace, name, identity string
}

// lead runs f while this process holds the Lease. Losing it is an error: the
// process must end, for its controllers cannot be stopped halfway.
func lead(ctx context.Context, l lease, f func(context.Context)) error {
	elector, err := leaderelection.NewLeaderElector(leaderelection.LeaderElectionConfig{
		Lock: &resourcelock.LeaseLock{
			LeaseMeta:  metav1.ObjectMeta{Namespace: l.namespace, Name: l.name},
			Client:     l.client.CoordinationV1(),
			LockConfig: resourcelock.ResourceLockConfig{Identity: l.identity},
		},
		LeaseDuration:   15 * time.Second,
		RenewDeadline:   10 * time.Second,
		RetryPeriod:     2 * time.Second,
		ReleaseOnCancel: true,
		Name:            l.name,
		Callbacks: leaderelection.LeaderCallbacks{
			OnStartedLeading: func(ctx context.Context) {
				klog.FromContext(ctx).Info("Leading")
				f(ctx)
			},
			OnStoppedLeading: func() { klog.FromContext(ctx).Info("Not leading any more") },
		},
	})
	if err != nil {
		return fmt.Errorf("elect a leader: %w", err)
	}
	elector.Run(ctx)
	if ctx.Err() == nil {
		return errors.New("lost the lead")
	}
	return nil
}
