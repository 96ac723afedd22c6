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

// annotationCaps records what a user's Secret was made for, so that Ceph is
// asked only when that changes.
const annotationCaps = "cairn.storage/caps"

// user is one CephX user of the block driver: its controller, or one node.
type user struct{ entity, secret string }

// users of a cluster: the controller and each node.
func users(fsid string, nodes []corev1.Node) []user {
	list := []user{{"csi-controller", csidriver.ControllerSecret(fsid)}}
	for _, node := range nodes {
		list = append(list, user{"csi-node." + node.Name, csidriver.NodeSecret(fsid, node.Name)})
	}
	return list
}

// caps let a user work in the cluster's pools and nowhere else.
func caps(pools []string) ceph.Caps {
	var osd []string
	for _, pool := range pools {
		osd = append(osd, "profile rbd pool="+pool)
	}
	return ceph.Caps{"mon": "profile rbd", "osd": strings.Join(osd, ", ")}
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

// ensureUsers gives the controller and every node a user of its own.
func (r *Reconciler) ensureUsers(ctx context.Context, o *Observed) error {
	want := caps(o.pools())
	stamp := want["osd"] + " @ " + o.Cred.MonHost
	for _, u := range users(o.Cred.FSID, o.Nodes) {
		var live corev1.Secret
		err := r.Client.Get(ctx, client.ObjectKey{Namespace: o.Pool.Namespace, Name: u.secret}, &live)
		if client.IgnoreNotFound(err) != nil {
			return fmt.Errorf("read Secret %s: %w", u.secret, err)
		}
		if err == nil && live.Annotations[annotationCaps] == stamp {
			continue
		}
		key, err := o.Conn.EnsureUser(ctx, "client."+u.entity, want)
		if err != nil {
			return err
		}
		if err := kube.Apply(ctx, r.Client, o.secret(u, key, stamp)); err != nil {
			return err
		}
	}
	return nil
}

func (o *Observed) secret(u user, key ceph.Key, stamp string) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: kube.Meta(o.Cluster, u.secret, csidriver.Component, ""), Type: "cairn.storage/csi",
		Data: map[string][]byte{"fsid": []byte(o.Cred.FSID), "monHost": []byte(o.Cred.MonHost), "user": []byte(u.entity), "key": []byte(key.Reveal())},
	}
	secret.Annotations[annotationCaps] = stamp
	return secret
}
