// Package mgr makes the managers.
package mgr

import (
	"fmt"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/daemonpod"
)

// Component is the label of everything that belongs to a mgr.
const Component = "mgr"

// Names are all mgrs that a cluster may have.
var Names = []string{"a", "b"}

// ObjectName of a mgr's Deployment and of the Secret with its keyring.
func ObjectName(cluster *v1alpha1.StorageCluster, name string) string {
	return fmt.Sprintf("%s-mgr-%s", cluster.Name, name)
}

// Deployment runs one mgr.
func Deployment(cluster *v1alpha1.StorageCluster, name string) *appsv1.Deployment {
	pod := daemonpod.New(cluster, Component, name)
	pod.StopsWithin(5) // a mgr keeps nothing, and waits for mons that may be gone
	pod.Spread(cluster.Spec.Placement.NodeSelector)
	pod.Secret("keyring", ObjectName(cluster, name), "/run/keyring", "keyring")
	pod.EmptyDir("data", "/var/lib/ceph/mgr")
	pod.Run([]string{"ceph-mgr", "-f", "-i", name, "--mgr-data", "/var/lib/ceph/mgr",
		"--keyring", "/run/keyring/keyring", "--public-addr", "$(POD_IP)"}, cluster.Spec.Resources.Mgr)
	return pod.Deployment(ObjectName(cluster, name))
}
