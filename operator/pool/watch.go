package pool

import (
	"sigs.k8s.io/controller-runtime/pkg/builder"
	"sigs.k8s.io/controller-runtime/pkg/event"
	"sigs.k8s.io/controller-runtime/pkg/predicate"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// nodeSet lets through nodes that come and go: each needs a user of its own.
var nodeSet = builder.WithPredicates(predicate.Funcs{UpdateFunc: func(event.UpdateEvent) bool { return false }})

// clusterChanges lets through what a pool waits for.
var clusterChanges = builder.WithPredicates(predicate.Funcs{UpdateFunc: func(e event.UpdateEvent) bool {
	before, ok := e.ObjectOld.(*v1alpha1.StorageCluster)
	if !ok {
		return true
	}
	after, ok := e.ObjectNew.(*v1alpha1.StorageCluster)
	return !ok || before.Status.FSID != after.Status.FSID || before.Status.OSDs != after.Status.OSDs ||
		before.Spec.Network.Encryption != after.Spec.Network.Encryption
}})
