package cluster

import (
	"context"
	"fmt"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// Credentials returns what client.admin of a cluster connects with. It fails
// while the cluster has no keys or mons.
func Credentials(ctx context.Context, reader client.Reader, cluster *v1alpha1.StorageCluster) (ceph.Credentials, error) {
	var secret corev1.Secret
	if err := reader.Get(ctx, client.ObjectKey{Namespace: cluster.Namespace, Name: KeysName(cluster)}, &secret); err != nil {
		return ceph.Credentials{}, fmt.Errorf("read the keys: %w", err)
	}
	keys, err := readKeys(&secret)
	if err != nil {
		return ceph.Credentials{}, err
	}
	o := &Observed{Cluster: cluster, Keys: keys}
	var services corev1.ServiceList
	labels := client.MatchingLabels{kube.LabelCluster: cluster.Name, kube.LabelComponent: mon.Component}
	if err := reader.List(ctx, &services, client.InNamespace(cluster.Namespace), labels); err != nil {
		return ceph.Credentials{}, fmt.Errorf("list the mons' Services: %w", err)
	}
	var nodes corev1.NodeList
	if err := reader.List(ctx, &nodes); err != nil {
		return ceph.Credentials{}, fmt.Errorf("list nodes: %w", err)
	}
	o.Nodes = nodes.Items
	o.Mons = mon.Observed(services.Items, o.nodeAddress)
	return o.credentials(), nil
}

// credentials of client.admin. Where connections are encrypted, or will be, clients know
// no address of a messenger that cannot.
func (o *Observed) credentials() ceph.Credentials {
	if o.Cluster.Spec.Network.Encryption {
		return o.Keys.Credentials(mon.HostV2(o.Mons))
	}
	return o.Keys.Credentials(mon.Host(o.Mons))
}
