package cluster

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/osd"
)

// NextKey is a user whose next key is made.
type NextKey struct {
	Entity     string
	Generation int64
}

// CommitKey is a key that Ceph takes alone from now on.
type CommitKey struct {
	Entity string
	Key    ceph.Key
	// Current makes it the user's present one in the Secret with the keys.
	Current bool
}

// unmade stands for a key in what is written once it is made.
const unmade = "the next key"

// nextKeys has the next key made of every user of an earlier generation than the spec
// asks for, and the next one be the present one where it is the only one that is used.
func (p *planner) nextKeys() error {
	secrets := make(map[string]*corev1.Secret, len(p.d.OSDSecrets))
	for _, secret := range p.d.OSDSecrets {
		secrets[secret.Name] = secret
	}
	for i := range p.d.Targets {
		uuid := p.d.Targets[i].UUID
		p.nextOSDKey(p.o.osd(uuid), secrets[osd.SecretName(p.o.Cluster, uuid)])
	}
	for _, name := range mgrNames(p.o.Cluster) {
		live := p.o.Deployments[mgr.ObjectName(p.o.Cluster, name)]
		next := p.nextKey("mgr-"+name+"-key", "mgr."+name, p.o.Keys.of("mgr."+name))
		p.currentKey(next, live != nil && !rolling(live) && deployedKey(live) >= next.NextGeneration)
	}
	p.currentKey(p.nextKey("admin-key", adminEntity, p.o.Keys.of(adminEntity)), true)
	return nil
}

func (p *planner) nextOSDKey(known *ceph.OSD, secret *corev1.Secret) {
	if known == nil || secret == nil || p.o.givenUp(known.UUID) {
		return
	}
	if g := p.nextKey(fmt.Sprintf("osd-%d-key", known.ID), fmt.Sprintf("osd.%d", known.ID), osdKeys(secret)); g.step != nil {
		next := generationed{Generation: g.Generation, Next: unmade, NextGeneration: g.step.NextKey.Generation}
		g.step.Apply = []client.Object{withKeys(secret.DeepCopy(), known.ID, next)}
	}
}

// coming is what there is of a user's keys, and the step that has its next one made.
type coming struct {
	generationed
	entity string
	step   *Step
}

// nextKey adds the step that has a user's next key made, where it is to have one.
func (p *planner) nextKey(name, entity string, g generationed) coming {
	want := p.o.Cluster.Spec.Security.CephX.Daemons.KeyGeneration
	if p.o.Keys == nil || g.wanted() >= want {
		return coming{g, entity, nil}
	}
	gate := p.unreached()
	if p.o.Cluster.Status.Upgrade != nil {
		gate = "the change of Ceph's image is over"
	}
	s := step(name, fmt.Sprintf("have Ceph make the next key of %s, beside the present one", entity),
		fmt.Sprintf("spec.security.cephx.daemons.keyGeneration is %d, its key is of generation %d", want, g.Generation), gate)
	s.NextKey = &NextKey{entity, want}
	p.add(s)
	return coming{g, entity, &p.steps[len(p.steps)-1]}
}

// currentKey makes the next key of a user the present one in the Secret, once it is used.
func (p *planner) currentKey(c coming, used bool) {
	if c.Next == "" || !used || p.o.Ceph == nil {
		return
	}
	s := step(fmt.Sprintf("%s-current", c.entity), fmt.Sprintf("have only the key of generation %d of %s", c.NextGeneration, c.entity),
		"nothing uses the one before it any more", "")
	s.CommitKey = &CommitKey{c.entity, c.Next, true}
	p.add(s)
}

// commits is the key that a daemon is restarted for; nil when it goes on with the one
// that it has.
func (o *Observed) commits(wanted, live *appsv1.Deployment) *CommitKey {
	generation, g := deployedKey(wanted), o.keysOf(wanted)
	if g.Next == "" || generation != g.NextGeneration || live != nil && deployedKey(live) >= generation {
		return nil
	}
	return &CommitKey{Entity: entityOf(wanted), Key: g.Next}
}

// nextKey has Ceph make a user's next key and writes it down beside the present one.
// Nothing uses it yet.
func (r *Reconciler) nextKey(ctx context.Context, o *Observed, s Step) error {
	name := KeysName(o.Cluster)
	if len(s.Apply) > 0 {
		name = s.Apply[0].GetName()
	}
	var live corev1.Secret // a cache that lags must not have a key made that nobody waits for
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: name}, &live); err != nil {
		return fmt.Errorf("read the keys of %s: %w", s.NextKey.Entity, err)
	}
	g := osdKeys(&live)
	var keys *Keys
	if len(s.Apply) == 0 {
		var err error
		if keys, err = readKeys(&live); err != nil {
			return err
		}
		g = keys.of(s.NextKey.Entity)
	}
	if g.wanted() >= s.NextKey.Generation {
		return nil
	}
	var key ceph.Key
	if err := r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) (err error) {
		key, err = conn.PendingKey(ctx, s.NextKey.Entity)
		return err
	}); err != nil {
		return err
	}
	if keys == nil {
		secret, _ := s.Apply[0].DeepCopyObject().(*corev1.Secret)
		for item, text := range secret.Data {
			secret.Data[item] = []byte(strings.ReplaceAll(string(text), unmade, key.Reveal()))
		}
		return kube.ApplyOver(ctx, r.Client, &live, secret)
	}
	keys.set(s.NextKey.Entity, generationed{g.Generation, key, s.NextKey.Generation})
	return r.writeKeys(ctx, keys, &live)
}

// commitKey has Ceph take a key alone. It is not taken when Ceph knows it no more: then
// there is another one for the next look.
func (r *Reconciler) commitKey(ctx context.Context, o *Observed, c CommitKey) (taken bool, err error) {
	err = r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return conn.CommitKey(ctx, c.Entity, c.Key) })
	if ceph.Is(err, ceph.Invalid) {
		return false, r.replaceNext(ctx, o, c)
	}
	if err != nil || !c.Current {
		return err == nil, err
	}
	var live corev1.Secret
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: KeysName(o.Cluster)}, &live); err != nil {
		return false, fmt.Errorf("read the keys: %w", err)
	}
	keys, err := readKeys(&live)
	if err != nil || keys.of(c.Entity).Next != c.Key {
		return false, err
	}
	keys.current(c.Entity)
	return true, r.writeKeys(ctx, keys, &live)
}

// replaceNext writes another next key of a user down in place of one that Ceph takes neither
// alone nor beside another: mons that began anew from an earlier state have forgotten it.
// Nobody is let in with it, so nobody loses it.
func (r *Reconciler) replaceNext(ctx context.Context, o *Observed, c CommitKey) error {
	name := KeysName(o.Cluster)
	for _, secret := range o.Secrets {
		if osdKeys(secret).Next == c.Key {
			name = secret.Name
		}
	}
	var live corev1.Secret
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: name}, &live); err != nil {
		return fmt.Errorf("read the keys of %s: %w", c.Entity, err)
	}
	var key ceph.Key
	if err := r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) (err error) {
		key, err = conn.PendingKey(ctx, c.Entity)
		return err
	}); err != nil {
		return err
	}
	for item, text := range live.Data {
		live.Data[item] = []byte(strings.ReplaceAll(string(text), c.Key.Reveal(), key.Reveal()))
	}
	if err := r.Client.Update(ctx, &live, client.FieldOwner(kube.Manager)); err != nil {
		return fmt.Errorf("write the next key of %s: %w", c.Entity, err)
	}
	return nil
}

// current makes a user's next key its present one.
func (k *Keys) current(entity string) {
	g := k.of(entity)
	k.Keys[entity] = g.Next
	k.set(entity, generationed{Generation: g.NextGeneration})
}

// latest are the keys with which all daemons start anew: of a user with a next key, that.
func (k *Keys) latest() *Keys {
	out := k.clone()
	for entity, g := range k.Generations {
		if g.Next != "" {
			out.Keys[entity] = g.Next
		}
	}
	return out
}

// begin says of which generation the keys of a new cluster are.
func (k *Keys) begin(generation int64) {
	for _, entity := range rotated() {
		k.set(entity, generationed{Generation: generation})
	}
}

// clone is for what is changed in the imagination.
func (k *Keys) clone() *Keys {
	return &Keys{FSID: k.FSID, Keys: maps.Clone(k.Keys), Generations: maps.Clone(k.Generations)}
}

func (r *Reconciler) writeKeys(ctx context.Context, keys *Keys, secret *corev1.Secret) error {
	keys.writeGenerations(secret)
	if err := r.Client.Update(ctx, secret, client.FieldOwner(kube.Manager)); err != nil {
		return fmt.Errorf("write the keys: %w", err)
	}
	return nil
}

// osdSecretSeen is an OSD's Secret as it was seen: written over one that has changed since,
// it would bring back a key that Ceph refuses. Nil for what is none, or a new one.
func (o *Observed) osdSecretSeen(object client.Object) client.Object {
	if _, ok := object.(*corev1.Secret); !ok || object.GetAnnotations()[kube.AnnotationUUID] == "" {
		return nil
	}
	return o.live(object)
}

// keyHappens is what a step leads to in the imagination.
func (w *imagined) keyHappens(s Step) {
	switch {
	case s.NextKey != nil && len(s.Apply) == 0:
		w.Keys = w.Keys.clone()
		w.Keys.set(s.NextKey.Entity, generationed{w.Keys.of(s.NextKey.Entity).Generation, unmade, s.NextKey.Generation})
	case s.CommitKey != nil && s.CommitKey.Current:
		w.Keys = w.Keys.clone()
		w.Keys.current(s.CommitKey.Entity)
	}
}

// daemonKeys says of which generation the keys of the daemons are.
func daemonKeys(o *Observed, d *Desired) v1alpha1.KeyStatus {
	if o.Keys == nil {
		return v1alpha1.KeyStatus{}
	}
	want := o.Cluster.Spec.Security.CephX.Daemons.KeyGeneration
	lowest := o.Keys.of(adminEntity).Generation
	var waiting []string
	add := func(entity string, g generationed) {
		lowest = min(lowest, g.Generation)
		if g.Generation < want {
			waiting = append(waiting, entity)
		}
	}
	add(adminEntity, o.Keys.of(adminEntity))
	for _, name := range mgrNames(o.Cluster) {
		add("mgr."+name, o.Keys.of("mgr."+name))
	}
	for _, secret := range d.OSDSecrets {
		if id, ok := osd.ID(secret); ok && secret.Annotations[kube.AnnotationGivenUp] == "" {
			add(fmt.Sprintf("osd.%d", id), osdKeys(secret))
		}
	}
	return v1alpha1.KeyStatus{KeyGeneration: lowest, Waiting: bounding(waiting)}
}

// bounding cuts a list that may be of a thousand daemons.
func bounding(names []string) []string {
	if len(names) > maxPlan {
		return append(slices.Clone(names[:maxPlan-1]), fmt.Sprintf("and %d more", len(names)-maxPlan+1))
	}
	return names
}
