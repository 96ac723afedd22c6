package pool

import (
	"context"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
)

// user is one CephX user of the block driver: its controller's (node is empty), or one node's.
type user struct{ node, secret string }

// users of a cluster: the controller and each node.
func users(fsid string, nodes []corev1.Node) []user {
	list := []user{{"", csidriver.ControllerSecret(fsid)}}
	for _, node := range nodes {
		list = append(list, user{node.Name, csidriver.NodeSecret(fsid, node.Name)})
	}
	return list
}

// caps let a user work in the cluster's pools and nowhere else.
func caps(pools []string) ceph.Caps {
	var osd []string
	for _, pool := range pools {
		osd = append(osd, "profile rbd pool="+pool)
	}
	return csidriver.UserCaps(strings.Join(osd, ", "))
}

// pools that exist in Ceph or are being made now.
func (o *Observed) pools() (names []string) {
	for _, pool := range o.Siblings {
		if pool.Status.PoolID != 0 || pool.Name == o.Pool.Name {
			for _, known := range wanted(&pool) {
				names = append(names, known.Name)
			}
		}
	}
	slices.Sort(names)
	return names
}

// ensureUsers gives the controller and every node a user of its own. A user that there is
// gets other caps; another user for it is made by the cluster's plan.
func (r *Reconciler) ensureUsers(ctx context.Context, o *Observed) error {
	want := caps(o.pools())
	stamp := csidriver.Stamp(want, o.Cred.MonHost)
	for _, u := range users(o.Cred.FSID, o.Nodes) {
		var live corev1.Secret
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: o.Pool.Namespace, Name: u.secret}, &live)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read Secret %s: %w", u.secret, err)
		}
		var seen client.Object
		generation := o.Cluster.Spec.Security.CephX.CSI.KeyGeneration
		access := csidriver.Access{User: csidriver.UserName(u.node, generation), Generation: generation}
		if err == nil {
			seen, access = &live, csidriver.ReadAccess(&live)
		}
		if access.Caps == stamp {
			continue
		}
		access.FSID, access.MonHost, access.Caps = o.Cred.FSID, o.Cred.MonHost, stamp
		if access.Key, err = o.Conn.EnsureUser(ctx, "client."+access.User, want); err != nil {
			return err
		}
		if err := kube.ApplyOver(ctx, r.Client, seen, access.Secret(o.Cluster, u.secret)); err != nil {
			return err
		}
	}
	return nil
}
