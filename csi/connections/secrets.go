package connections

import (
	"context"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	typedcorev1 "k8s.io/client-go/kubernetes/typed/core/v1"

	"github.com/cairn-storage/cairn/csi/fault"
	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Source says with which credentials a cluster is entered.
type Source interface {
	Credentials(ctx context.Context, fsid string) (ceph.Credentials, error)
}

// Static is a source with the credentials at hand, by fsid.
type Static map[string]ceph.Credentials

// Credentials returns those of a cluster.
func (s Static) Credentials(_ context.Context, fsid string) (ceph.Credentials, error) {
	credentials, ok := s[fsid]
	if !ok {
		return ceph.Credentials{}, fault.Errorf(fault.NotFound, "cluster %s is not known", fsid)
	}
	return credentials, nil
}

// ControllerSecret names the Secret that the controller enters a cluster with.
func ControllerSecret(fsid string) string { return "csi-controller-" + fsid }

// NodeSecret names the Secret that a node enters a cluster with.
func NodeSecret(node string) func(fsid string) string {
	return func(fsid string) string { return "csi-node-" + fsid + "-" + node }
}

// Secrets reads credentials from Secrets, each by its exact name.
type Secrets struct {
	Client typedcorev1.SecretInterface
	Name   func(fsid string) string
}

// Credentials reads those of a cluster.
func (s Secrets) Credentials(ctx context.Context, fsid string) (ceph.Credentials, error) {
	if err := volumeid.CheckFSID(fsid); err != nil {
		return ceph.Credentials{}, fault.Errorf(fault.Invalid, "cluster %q %w", fsid, err)
	}
	secret, err := s.Client.Get(ctx, s.Name(fsid), metav1.GetOptions{})
	switch {
	case apierrors.IsNotFound(err):
		return ceph.Credentials{}, fault.Errorf(fault.NotFound, "cluster %s is not known here: there is no Secret %s", fsid, s.Name(fsid))
	case err != nil:
		return ceph.Credentials{}, fault.Errorf(fault.Unavailable, "read Secret %s: %w", s.Name(fsid), err)
	}
	return decode(secret, fsid)
}

func decode(secret *corev1.Secret, fsid string) (ceph.Credentials, error) {
	for _, key := range []string{"fsid", "monHost", "user", "key"} {
		if len(secret.Data[key]) == 0 {
			return ceph.Credentials{}, fault.Errorf(fault.Unavailable, "Secret %s has no %s", secret.Name, key)
		}
	}
	if got := string(secret.Data["fsid"]); got != fsid {
		return ceph.Credentials{}, fault.Errorf(fault.Unavailable, "Secret %s is of cluster %s", secret.Name, got)
	}
	return ceph.Credentials{
		FSID:    fsid,
		MonHost: string(secret.Data["monHost"]),
		User:    string(secret.Data["user"]),
		Key:     ceph.Key(secret.Data["key"]),
	}, nil
}
