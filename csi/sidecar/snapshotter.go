package sidecar

import (
	"context"
	"slices"
	"sync"
	"time"

	snapshotscheme "github.com/kubernetes-csi/external-snapshotter/client/v8/clientset/versioned/scheme"
	snapshotinformers "github.com/kubernetes-csi/external-snapshotter/client/v8/informers/externalversions"
	"github.com/kubernetes-csi/external-snapshotter/v8/pkg/group_snapshotter"
	controller "github.com/kubernetes-csi/external-snapshotter/v8/pkg/sidecar-controller"
	"github.com/kubernetes-csi/external-snapshotter/v8/pkg/snapshotter"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/client-go/discovery"
	"k8s.io/client-go/kubernetes/scheme"
	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/csi/identity"
)

// rediscover is how often it is looked whether snapshot objects can be had.
const rediscover = 15 * time.Second

// snapshotAPI is what of the snapshot objects the cluster knows.
type snapshotAPI struct{ snapshots, groups bool }

// addSnapshotter adds what makes and deletes snapshots and group snapshots. Their
// CRDs are no part of Kubernetes: they may be installed later, or be removed.
func (c *Controllers) addSnapshotter() {
	if c.options.Snapshots == nil {
		return
	}
	_ = snapshotscheme.AddToScheme(scheme.Scheme) // for the events; it cannot fail
	c.runnables = append(c.runnables, func(ctx context.Context, _ *sync.WaitGroup) {
		followSnapshots(ctx, c.options.Client.Discovery(), c.runSnapshotter)
	})
}

// followSnapshots runs f with what the cluster knows of snapshot objects, while it
// knows any, and anew when that changes.
func followSnapshots(ctx context.Context, known discovery.DiscoveryInterface, f func(ctx context.Context, groups bool)) {
	ticker := time.NewTicker(rediscover)
	defer ticker.Stop()
	follow(ctx, known, ticker.C, f)
}

func follow(ctx context.Context, known discovery.DiscoveryInterface, look <-chan time.Time, f func(ctx context.Context, groups bool)) {
	running, stop := snapshotAPI{}, func() {}
	defer func() { stop() }()
	for {
		now, err := discover(known)
		switch {
		case err != nil:
			klog.FromContext(ctx).Info("Cannot find out whether there are snapshot objects", "reason", err.Error())
		case now != running:
			klog.FromContext(ctx).Info("Snapshot objects", "VolumeSnapshots", now.snapshots, "VolumeGroupSnapshots", now.groups)
			stop()
			running, stop = now, start(ctx, now, f)
		}
		select {
		case <-ctx.Done():
			return
		case <-look:
		}
	}
}

// start runs f in the background, and returns what ends it and waits for its end.
func start(ctx context.Context, api snapshotAPI, f func(context.Context, bool)) func() {
	if !api.snapshots {
		return func() {}
	}
	ctx, cancel := context.WithCancel(ctx)
	done := make(chan struct{})
	go func() {
		defer close(done)
		f(ctx, api.groups)
	}()
	return func() {
		cancel()
		<-done
	}
}

func discover(known discovery.DiscoveryInterface) (api snapshotAPI, err error) {
	if api.snapshots, err = serves(known, "snapshot.storage.k8s.io/v1", "volumesnapshots", "volumesnapshotcontents", "volumesnapshotclasses"); err != nil {
		return api, err
	}
	api.groups, err = serves(known, "groupsnapshot.storage.k8s.io/v1", "volumegroupsnapshots", "volumegroupsnapshotcontents", "volumegroupsnapshotclasses")
	return api, err
}

func serves(known discovery.DiscoveryInterface, version string, names ...string) (bool, error) {
	list, err := known.ServerResourcesForGroupVersion(version)
	if apierrors.IsNotFound(err) {
		return false, nil
	}
	if err != nil {
		return false, err
	}
	for _, name := range names {
		if !slices.ContainsFunc(list.APIResources, func(r metav1.APIResource) bool { return r.Name == name }) {
			return false, nil
		}
	}
	return true, nil
}

func (c *Controllers) runSnapshotter(ctx context.Context, groups bool) {
	factory := snapshotinformers.NewSharedInformerFactoryWithOptions(c.options.Snapshots, resync, snapshotinformers.WithTransform(trim))
	objects := factory.Snapshot().V1()
	groupObjects := factory.Groupsnapshot().V1()
	var groupDriver group_snapshotter.GroupSnapshotter
	if groups {
		groupDriver = group_snapshotter.NewGroupSnapshotter(c.conn)
	}
	control := controller.NewCSISnapshotSideCarController(
		c.options.Snapshots,
		c.options.Client,
		identity.DriverName,
		objects.VolumeSnapshotContents(),
		objects.VolumeSnapshotClasses(),
		snapshotter.NewSnapshotter(c.conn),
		groupDriver,
		callTimeout,
		resync,
		"snapshot", // names are snapshot-<uid>
		-1,         // all of the uid
		"groupsnapshot",
		-1,
		false,
		backoff(),
		groups,
		groupObjects.VolumeGroupSnapshotContents(),
		groupObjects.VolumeGroupSnapshotClasses(),
		backoff(),
	)
	factory.Start(ctx.Done())
	var group sync.WaitGroup
	control.Run(c.options.Workers, ctx.Done(), &group)
	factory.Shutdown()
}
