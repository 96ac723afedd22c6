package cluster

import (
	"fmt"
	"slices"
	"strconv"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/osd"
)

// Every key is of a generation. The next one is made by Ceph, which takes it beside the
// present one, and is in a Secret before anything uses it. A daemon's Deployment says
// which of the two its pod gets: just before it changes, Ceph is told to take the
// next one alone. What is left half done by an operator that is killed goes on from
// there: whoever has the Secret has the key that Ceph takes.

// generationed is what a Secret has of one user's keys: the present one and the next.
type generationed struct {
	Generation int64
	// Next is the key of NextGeneration; empty when there is none.
	Next           ceph.Key
	NextGeneration int64
}

// wanted is the generation that the user is to have: the next one, where there is one.
func (g generationed) wanted() int64 {
	if g.Next != "" {
		return g.NextGeneration
	}
	return g.Generation
}

// keyringItem of a Secret is a keyring with the key of a generation.
func keyringItem(generation int64) string {
	if generation <= 1 {
		return "keyring"
	}
	return "keyring." + strconv.FormatInt(generation, 10)
}

// keyItem of a Secret is the key of the next generation.
const keyItem = "next"

// generationOf is which generation a text says; 1 where there is none.
func generationOf(text string) int64 {
	if n, err := strconv.ParseInt(text, 10, 64); err == nil && n > 1 {
		return n
	}
	return 1
}

// osdKeys are the keys that an OSD's Secret has.
func osdKeys(secret *corev1.Secret) generationed {
	if secret == nil {
		return generationed{Generation: 1}
	}
	return generationed{
		Generation: generationOf(secret.Annotations[kube.AnnotationKeyGeneration]),
		Next:       ceph.Key(secret.Data[keyItem]), NextGeneration: generationOf(secret.Annotations[kube.AnnotationNextKeyGeneration]),
	}
}

// withKeys has an OSD's Secret, which was made for its present key, hold what it has to of
// all its keys.
func withKeys(secret *corev1.Secret, id int, g generationed) *corev1.Secret {
	if g.Generation > 1 {
		secret.Annotations[kube.AnnotationKeyGeneration] = strconv.FormatInt(g.Generation, 10)
		if keyring := secret.Data["keyring"]; len(keyring) > 0 {
			secret.Data[keyringItem(g.Generation)] = keyring
		}
	}
	if g.Next != "" {
		secret.Annotations[kube.AnnotationNextKeyGeneration] = strconv.FormatInt(g.NextGeneration, 10)
		secret.Data[keyItem] = []byte(g.Next.Reveal())
		secret.Data[keyringItem(g.NextGeneration)] = []byte(fmt.Sprintf("[osd.%d]\nkey = %s\n", id, g.Next.Reveal()))
	}
	return secret
}

// osdSecret is an OSD's Secret as it should be. Once the OSD runs with its next key,
// that is its key.
func (o *Observed) osdSecret(t osd.Target, id int, formatted bool) *corev1.Secret {
	seen := o.Secrets[osd.SecretName(o.Cluster, t.UUID)]
	key, g := o.OSDKeys[t.UUID], osdKeys(seen)
	if live := o.Deployments[osd.DeploymentName(o.Cluster, id)]; g.Next != "" && live != nil && !rolling(live) && deployedKey(live) >= g.NextGeneration {
		key, g = g.Next, generationed{Generation: g.NextGeneration}
	}
	return withKeys(osd.WithEncryptionKey(osd.Secret(o.Cluster, t, key, id, formatted), osd.EncryptionKey(seen)), id, g)
}

// keyVolume of a daemon's pod has its keyring.
const keyVolume = "keyring"

// useKey has a daemon's pod get the key of a generation, or of a later one that it has.
func useKey(made, live *appsv1.Deployment, generation int64) *appsv1.Deployment {
	if live != nil {
		generation = max(generation, deployedKey(live))
	}
	if volume := volumeOf(made, keyVolume); volume != nil && generation > 1 {
		volume.Secret.Items[0] = corev1.KeyToPath{Key: keyringItem(generation), Path: "keyring"}
	}
	return made
}

// deployedKey is the generation of the key that a Deployment gives its pod.
func deployedKey(d *appsv1.Deployment) int64 {
	volume := volumeOf(d, keyVolume)
	if volume == nil {
		return 1
	}
	_, generation, _ := strings.Cut(volume.Secret.Items[0].Key, "keyring.")
	return generationOf(generation)
}

func volumeOf(d *appsv1.Deployment, name string) *corev1.Volume {
	volumes := d.Spec.Template.Spec.Volumes
	at := slices.IndexFunc(volumes, func(v corev1.Volume) bool {
		return v.Name == name && v.Secret != nil && len(v.Secret.Items) == 1
	})
	if at < 0 {
		return nil
	}
	return &volumes[at]
}

// entityOf is the user that a daemon is to Ceph.
func entityOf(d *appsv1.Deployment) string {
	return d.Labels[kube.LabelComponent] + "." + d.Labels[kube.LabelInstance]
}

// keysOf are the keys of a daemon.
func (o *Observed) keysOf(d *appsv1.Deployment) generationed {
	switch d.Labels[kube.LabelComponent] {
	case osd.Component:
		return osdKeys(o.Secrets[osd.SecretName(o.Cluster, osd.TargetOf(d).UUID)])
	case mgr.Component:
		return o.Keys.of(entityOf(d))
	}
	return generationed{Generation: 1}
}

// of is what there is of a user's keys.
func (k *Keys) of(entity string) generationed {
	if k != nil {
		if g, ok := k.Generations[entity]; ok {
			return g
		}
	}
	return generationed{Generation: 1}
}

// What a Secret with the keys of all has of one, beside its key: prefixes of its entity.
const (
	generationPrefix     = "generation."
	nextPrefix           = "next."
	nextGenerationPrefix = "next-generation."
)

func (k *Keys) readGenerations(secret *corev1.Secret) {
	for _, entity := range rotated() {
		g := generationed{Generation: generationOf(string(secret.Data[generationPrefix+entity]))}
		if next := ceph.Key(secret.Data[nextPrefix+entity]); next != "" {
			g.Next, g.NextGeneration = next, generationOf(string(secret.Data[nextGenerationPrefix+entity]))
		}
		k.set(entity, g)
	}
}

func (k *Keys) set(entity string, g generationed) {
	if k.Generations == nil {
		k.Generations = map[string]generationed{}
	}
	k.Generations[entity] = g
}

func (k *Keys) writeGenerations(secret *corev1.Secret) {
	for entity, g := range k.Generations {
		write := func(prefix, value string) {
			if value == "" {
				delete(secret.Data, prefix+entity)
			} else {
				secret.Data[prefix+entity] = []byte(value)
			}
		}
		generation, next := "", ""
		if g.Generation > 1 {
			generation = strconv.FormatInt(g.Generation, 10)
		}
		if g.Next != "" {
			next = strconv.FormatInt(g.NextGeneration, 10)
		}
		write(generationPrefix, generation)
		write(nextPrefix, g.Next.Reveal())
		write(nextGenerationPrefix, next)
		secret.Data[entity] = []byte(k.Keys[entity].Reveal())
	}
}

// adminEntity is the user that the operator is.
const adminEntity = "client.admin"

// rotated are the users with a key in the Secret of all that can be made anew. That of the
// mons cannot: see docs/security.md.
func rotated() []string {
	entities := []string{adminEntity}
	for _, name := range mgr.Names {
		entities = append(entities, "mgr."+name)
	}
	return entities
}

// mgrKeyrings are the keyrings of a mgr: with its key and with the next one.
func (k *Keys) mgrKeyrings(entity string) map[string][]byte {
	g := k.of(entity)
	data := map[string][]byte{"keyring": k.keyring(entity)}
	data[keyringItem(g.Generation)] = data["keyring"]
	if g.Next != "" {
		next := &Keys{Keys: map[string]ceph.Key{entity: g.Next}}
		data[keyringItem(g.NextGeneration)] = next.keyring(entity)
	}
	return data
}
