package sidecar

import (
	"context"
	"sync"

	snapshots "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned"
	snapshotscheme "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned/scheme"
	snapshotinformers "github.com/kubernetes-csi/external-snapshotter/client/v8/informers/externalversions"
	controller "github.com/kubernetes-csi/external-snapshotter/v8/pkg/common-controller"
	"github.com/kubernetes-csi/external-snapshotter/v8/pkg/metrics"
	"k8s.io/client-go/informers"
	"k8s.io/client-go/kubernetes"
	"k8s.io/client-go/kubernetes/scheme"
)

// SnapshotController is the cluster's own controller of VolumeSnapshots, which
// serves all drivers. A cluster has one: this is for those that came without.
type SnapshotController struct {
	Client    kubernetes.Interface
	Snapshots snapshots.Interface
	// Namespace of the Lease, and Identity in it.
	Namespace, Identity string
	Workers             int
}

const snapshotLease = "cairn-snapshot-controller"

// Run leads and works until the context ends or the lead is lost.
func (s SnapshotController) Run(ctx context.Context) error {
	_ = snapshotscheme.AddToScheme(scheme.Scheme) // for the events; it cannot fail
	return lead(ctx, lease{s.Client, s.Namespace, snapshotLease, s.Identity}, func(ctx context.Context) {
		followSnapshots(ctx, s.Client.Discovery(), s.work)
	})
}

func (s SnapshotController) work(ctx context.Context, groups bool) {
	core := informers.NewSharedInformerFactoryWithOptions(s.Client, resync, informers.WithTransform(trim))
	factory := snapshotinformers.NewSharedInformerFactoryWithOptions(s.Snapshots, resync, snapshotinformers.WithTransform(trim))
	objects, groupObjects := factory.Snapshot().V1(), factory.Groupsnapshot().V1()
	control := controller.NewCSISnapshotCommonController(
		s.Snapshots,
		s.Client,
		objects.VolumeSnapshots(),
		objects.VolumeSnapshotContents(),
		objects.VolumeSnapshotClasses(),
		groupObjects.VolumeGroupSnapshots(),
		groupObjects.VolumeGroupSnapshotContents(),
		groupObjects.VolumeGroupSnapshotClasses(),
		core.Core().V1().PersistentVolumeClaims(),
		core.Core().V1().PersistentVolumes(),
		nil, // nodes, which do not make snapshots themselves
		metrics.NewMetricsManager(),
		resync,
		backoff(),
		backoff(),
		backoff(),
		backoff(),
		false, // snapshots are not made by nodes
		true,  // a volume mode never changes on the way
		groups,
	)
	factory.Start(ctx.Done())
	core.Start(ctx.Done())
	var group sync.WaitGroup
	control.Run(s.Workers, ctx.Done(), &group)
	factory.Shutdown()
	core.Shutdown()
}
