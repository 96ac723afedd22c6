package csidriver

import (
	"fmt"
	"strconv"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
)

const (
	// annotationCaps records what a user's Secret was made for, so that Ceph is
	// asked only when that changes.
	annotationCaps = "cairn.storage/caps"
	// annotationOld are the users of earlier generations that are not removed yet.
	annotationOld = "cairn.storage/old-users"
)

// Access is what a Secret of the driver holds: by what user a part of it enters a cluster.
type Access struct {
	FSID, MonHost string
	User          string
	Key           ceph.Key
	// Generation of the user: each has a user of its own, so that the one before
	// lives until nothing uses it.
	Generation int64
	// Old are the users of earlier generations that are not removed yet.
	Old []string
	// Caps are what the user may do, and where the mons were.
	Caps string
}

// UserName of the controller (node is empty) or a node, in a generation.
func UserName(node string, generation int64) string {
	name := "csi-controller"
	if node != "" {
		name = "csi-node"
	}
	if generation > 1 {
		name += fmt.Sprintf("-g%d", generation)
	}
	if node != "" {
		name += "." + node
	}
	return name
}

// Node that a Secret is for; empty is the controller.
func Node(secret *corev1.Secret) string {
	node, ok := strings.CutPrefix(secret.Name, NodeSecret(string(secret.Data["fsid"]), ""))
	if !ok {
		return ""
	}
	return node
}

// Secret of the driver.
func (a Access) Secret(cluster *v1alpha1.StorageCluster, name string) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: kube.Meta(cluster, name, Component, ""), Type: "cairn.storage/csi",
		Data: map[string][]byte{"fsid": []byte(a.FSID), "monHost": []byte(a.MonHost), "user": []byte(a.User), "key": []byte(a.Key.Reveal())},
	}
	secret.Annotations[annotationCaps] = a.Caps
	if a.Generation > 1 {
		secret.Annotations[kube.AnnotationKeyGeneration] = strconv.FormatInt(a.Generation, 10)
	}
	if len(a.Old) > 0 {
		secret.Annotations[annotationOld] = strings.Join(a.Old, ",")
	}
	return secret
}

// ReadAccess is the inverse of Secret.
func ReadAccess(secret *corev1.Secret) Access {
	a := Access{
		FSID: string(secret.Data["fsid"]), MonHost: string(secret.Data["monHost"]), User: string(secret.Data["user"]),
		Key: ceph.Key(secret.Data["key"]), Generation: 1, Caps: secret.Annotations[annotationCaps],
	}
	if n, err := strconv.ParseInt(secret.Annotations[kube.AnnotationKeyGeneration], 10, 64); err == nil {
		a.Generation = n
	}
	if old := secret.Annotations[annotationOld]; old != "" {
		a.Old = strings.Split(old, ",")
	}
	return a
}

// UserCaps are what a user of the driver may do: work in the cluster's pools and nowhere else.
func UserCaps(osd string) ceph.Caps { return ceph.Caps{"mon": "profile rbd", "osd": osd} }

// Stamp is what Caps are of a user that may do this, while the mons are there.
func Stamp(caps ceph.Caps, monHost string) string { return caps["osd"] + " @ " + monHost }

// UserCaps are those of the user.
func (a Access) UserCaps() ceph.Caps {
	osd, _, _ := strings.Cut(a.Caps, " @ ")
	return UserCaps(osd)
}
