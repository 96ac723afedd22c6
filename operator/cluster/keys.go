package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
)

// KeysName of the Secret that a cluster begins with: its fsid and first keys.
// It is made once and never deleted by Cairn: without it the data cannot be
// reached. A key in it changes only after the next one was written beside it.
func KeysName(cluster *v1alpha1.StorageCluster) string { return cluster.Name + "-keys" }

// Keys are the fsid and first keys of a cluster.
type Keys struct {
	FSID string
	Keys map[string]ceph.Key // entity → key
	// Generations are those of the keys that were made anew, with the keys that come next.
	Generations map[string]generationed
}

// founders are the users that every cluster begins with, and their caps.
func founders() map[string]ceph.Caps {
	users := map[string]ceph.Caps{
		"mon.":         {"mon": "allow *"},
		"client.admin": {"mon": "allow *", "osd": "allow *", "mgr": "allow *", "mds": "allow *"},
	}
	for _, name := range mgr.Names {
		users["mgr."+name] = ceph.Caps{"mon": "allow profile mgr", "osd": "allow *", "mds": "allow *"}
	}
	return users
}

// newKeys makes the fsid and keys of a new cluster.
func newKeys(newKey func() (ceph.Key, error)) (*Keys, error) {
	k := &Keys{FSID: uuid.NewString(), Keys: map[string]ceph.Key{}}
	for entity := range founders() {
		key, err := newKey()
		if err != nil {
			return nil, err
		}
		k.Keys[entity] = key
	}
	return k, nil
}

// secret is the durable form of the keys.
func (k *Keys) secret(cluster *v1alpha1.StorageCluster) *corev1.Secret {
	secret := &corev1.Secret{
		ObjectMeta: kube.Kept(cluster, KeysName(cluster), "keys", ""), Type: "cairn.storage/keys",
		Data: map[string][]byte{"fsid": []byte(k.FSID)},
	}
	for entity, key := range k.Keys {
		secret.Data[strings.TrimSuffix(entity, ".")] = []byte(key.Reveal())
	}
	k.writeGenerations(secret)
	return secret
}

// readKeys is the inverse of secret.
func readKeys(secret *corev1.Secret) (*Keys, error) {
	k := &Keys{FSID: string(secret.Data["fsid"]), Keys: map[string]ceph.Key{}}
	if _, err := uuid.Parse(k.FSID); err != nil {
		return nil, fmt.Errorf("secret %s: fsid: %w", secret.Name, err)
	}
	for entity := range founders() {
		name := strings.TrimSuffix(entity, ".")
		if len(secret.Data[name]) == 0 {
			return nil, fmt.Errorf("secret %s has no key %q", secret.Name, name)
		}
		k.Keys[entity] = ceph.Key(secret.Data[name])
	}
	k.readGenerations(secret)
	return k, nil
}

// keyring is a keyring file with the keys and caps of some entities.
func (k *Keys) keyring(entities ...string) []byte {
	var text strings.Builder
	for _, entity := range entities {
		fmt.Fprintf(&text, "[%s]\nkey = %s\n", entity, k.Keys[entity].Reveal())
		caps := founders()[entity]
		for _, daemon := range slices.Sorted(maps.Keys(caps)) {
			fmt.Fprintf(&text, "caps %s = %q\n", daemon, caps[daemon])
		}
	}
	return []byte(text.String())
}

// keyrings are the Secrets that daemons mount: what mons are made with, and
// one for each mgr.
func (k *Keys) keyrings(cluster *v1alpha1.StorageCluster, mons []mon.Mon, mgrs []string) []*corev1.Secret {
	secrets := []*corev1.Secret{mon.Bootstrap(cluster, k.keyring(slices.Sorted(maps.Keys(founders()))...), mons)}
	for _, name := range mgrs {
		secrets = append(secrets, &corev1.Secret{
			ObjectMeta: kube.Meta(cluster, mgr.ObjectName(cluster, name), mgr.Component, name), Type: "cairn.storage/keyring",
			Data: k.mgrKeyrings("mgr." + name),
		})
	}
	return secrets
}

// Credentials of client.admin.
func (k *Keys) Credentials(monHost string) ceph.Credentials {
	return ceph.Credentials{FSID: k.FSID, MonHost: monHost, User: "admin", Key: k.Keys[adminEntity], Next: k.of(adminEntity).Next}
}
