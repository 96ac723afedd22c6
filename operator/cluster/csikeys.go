package cluster

import (
	"context"
	"encoding/json"
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
)

// The CSI driver gets a new key as a new user, so that the one before works on: the
// node's data path goes over to the new one by itself, and a volume that the kernel has
// mapped keeps the old one until it is unmapped. An old user is removed once its node
// says that nothing uses it.

// NewUser is a part of the CSI driver that gets a user of another generation.
type NewUser struct {
	Secret     string
	Generation int64
}

// OldUser is a user of an earlier generation that nothing uses any more.
type OldUser struct{ Secret, User string }

// csiSecrets are those of the CSI driver in this cluster: the nodes', then the controller's.
func (o *Observed) csiSecrets() (secrets []*corev1.Secret) {
	for _, name := range slices.Sorted(maps.Keys(o.Secrets)) {
		if s := o.Secrets[name]; s.Labels[kube.LabelComponent] == csidriver.Component && len(s.Data["user"]) > 0 {
			secrets = append(secrets, s)
		}
	}
	slices.SortStableFunc(secrets, func(a, b *corev1.Secret) int { return strings.Compare(rank(a), rank(b)) })
	return secrets
}

func rank(secret *corev1.Secret) string {
	if csidriver.Node(secret) != "" {
		return "0"
	}
	return "1"
}

// partOf names what a Secret is for.
func partOf(secret *corev1.Secret) string {
	if node := csidriver.Node(secret); node != "" {
		return "node " + node
	}
	return "the CSI controller"
}

// csiKeys has users of another generation made, and removes those that nothing uses.
func (p *planner) csiKeys() error {
	want := p.o.Cluster.Spec.Security.CephX.CSI.KeyGeneration
	for _, secret := range p.o.csiSecrets() {
		a := csidriver.ReadAccess(secret)
		name := strings.TrimPrefix(strings.ReplaceAll(partOf(secret), " ", "-"), "the-")
		if a.Generation < want {
			s := step("key-of-"+strings.ToLower(name), fmt.Sprintf("give %s a CephX user of its own of generation %d, beside the one that it has", partOf(secret), want),
				fmt.Sprintf("spec.security.cephx.csi.keyGeneration is %d", want), p.unreached())
			s.NewUser = &NewUser{secret.Name, want}
			a.Old, a.User, a.Generation, a.Key = append(slices.Clone(a.Old), a.User), csidriver.UserName(csidriver.Node(secret), want), want, unmade
			s.Apply = []client.Object{a.Secret(p.o.Cluster, secret.Name)}
			p.add(s)
			continue
		}
		for _, old := range a.Old {
			if p.o.inUse(secret, old) == "" && p.o.Ceph != nil {
				s := step("remove-"+old, "remove the CephX user "+old, "nothing on "+partOf(secret)+" uses it any more", "")
				s.OldUser, s.Risk = &OldUser{secret.Name, old}, v1alpha1.RiskDestroys
				p.add(s)
			}
		}
	}
	return nil
}

// unreached is the gate of what Ceph has to be asked for.
func (p *planner) unreached() string {
	if p.o.Ceph == nil {
		return "the mons have a quorum"
	}
	return ""
}

// inUse says by what an old user is in use still; empty when by nothing. A node that says
// nothing may use it.
func (o *Observed) inUse(secret *corev1.Secret, old string) string {
	node, a := csidriver.Node(secret), csidriver.ReadAccess(secret)
	if node == "" {
		return o.controllerUses(a.Generation)
	}
	if o.node(node) == nil {
		return "" // it is gone, and what it had attached with it
	}
	return usedBy(o.Inventory[node], a, old)
}

// usedBy is inUse as a node says it.
func usedBy(node *v1alpha1.NodeStorage, a csidriver.Access, old string) string {
	said := v1alpha1.CSIUsersOf(node, a.FSID)
	switch {
	case said == nil:
		return "its CSI node plugin has not said which user it uses"
	case said.Current != a.User:
		return "its CSI node plugin has not taken the new one yet"
	}
	return said.Others[old]
}

// controllerUses: the controller takes its new user within half a minute, and nothing
// is lost when it does so only because it is refused. Its old one goes after the nodes'.
func (o *Observed) controllerUses(generation int64) string {
	for _, secret := range o.csiSecrets() {
		if a := csidriver.ReadAccess(secret); csidriver.Node(secret) != "" && (a.Generation < generation || len(a.Old) > 0) {
			return "it is removed after those of the nodes"
		}
	}
	return ""
}

// newUser makes a user and writes its key down. Until then nobody knows of it.
func (r *Reconciler) newUser(ctx context.Context, o *Observed, n NewUser) error {
	live, a, err := r.access(ctx, o, n.Secret)
	if err != nil || a.Generation >= n.Generation {
		return err
	}
	a.Old, a.Generation = append(a.Old, a.User), n.Generation
	a.User = csidriver.UserName(csidriver.Node(live), n.Generation)
	if err := r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) (err error) {
		a.Key, err = conn.EnsureUser(ctx, "client."+a.User, a.UserCaps())
		return err
	}); err != nil {
		return err
	}
	return kube.ApplyOver(ctx, r.Client, live, a.Secret(o.Cluster, n.Secret))
}

// removeUser removes an old user, after a look at the server whether it is in use.
func (r *Reconciler) removeUser(ctx context.Context, o *Observed, old OldUser) error {
	live, a, err := r.access(ctx, o, old.Secret)
	if err != nil || !slices.Contains(a.Old, old.User) || a.User == old.User {
		return err
	}
	if node := csidriver.Node(live); node != "" && o.node(node) != nil {
		var said v1alpha1.NodeStorage
		if err := r.Live.Get(ctx, client.ObjectKey{Name: node}, &said); err != nil {
			return fmt.Errorf("read which CephX users node %s uses: %w", node, err)
		}
		if by := usedBy(&said, a, old.User); by != "" {
			return fmt.Errorf("user %s is in use: %s", old.User, by)
		}
	}
	if err := r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error { return conn.RemoveUser(ctx, "client."+old.User) }); err != nil {
		return err
	}
	a.Old = without(a.Old, []string{old.User})
	return kube.ApplyOver(ctx, r.Client, live, a.Secret(o.Cluster, old.Secret))
}

func (r *Reconciler) access(ctx context.Context, o *Observed, name string) (*corev1.Secret, csidriver.Access, error) {
	var live corev1.Secret
	if err := r.Live.Get(ctx, client.ObjectKey{Namespace: o.Cluster.Namespace, Name: name}, &live); err != nil {
		return nil, csidriver.Access{}, fmt.Errorf("read the CSI driver's key: %w", err)
	}
	return &live, csidriver.ReadAccess(&live), nil
}

// csiStatus says of which generation the keys of the CSI driver are, and who uses earlier ones.
func csiStatus(o *Observed) (status v1alpha1.KeyStatus) {
	want := o.Cluster.Spec.Security.CephX.CSI.KeyGeneration
	status.KeyGeneration = want
	for _, secret := range o.csiSecrets() {
		a := csidriver.ReadAccess(secret)
		status.KeyGeneration = min(status.KeyGeneration, a.Generation)
		if a.Generation < want {
			status.Waiting = append(status.Waiting, partOf(secret)+": has its earlier user alone")
		}
		for _, old := range a.Old {
			status.KeyGeneration = min(status.KeyGeneration, a.Generation-1)
			if by := o.inUse(secret, old); by != "" {
				status.Waiting = append(status.Waiting, fmt.Sprintf("%s: %s: %s", partOf(secret), old, by))
			}
		}
	}
	status.Waiting = bounding(status.Waiting)
	return status
}

// userHappens is what follows of itself from a new user: the node takes it for all but
// what its kernel has mapped.
func (w *imagined) userHappens(s Step) {
	if s.OldUser != nil {
		secret := w.Secrets[s.OldUser.Secret]
		a := csidriver.ReadAccess(secret)
		a.Old = without(a.Old, []string{s.OldUser.User})
		w.Secrets[secret.Name] = a.Secret(w.Cluster, secret.Name)
		return
	}
	wanted, ok := s.Apply[0].(*corev1.Secret)
	if !ok {
		return
	}
	a, node := csidriver.ReadAccess(wanted), csidriver.Node(wanted)
	live := w.Inventory[node]
	said := v1alpha1.CSIUsersOf(live, a.FSID)
	if said == nil {
		return
	}
	said.Current = a.User
	maps.DeleteFunc(said.Others, func(_, by string) bool { return !strings.Contains(by, v1alpha1.ByKernel) })
	text, err := json.Marshal(map[string]v1alpha1.CSIUsers{a.FSID: *said})
	if err != nil {
		return
	}
	w.Inventory = maps.Clone(w.Inventory)
	w.Inventory[node] = live.DeepCopy()
	w.Inventory[node].Annotations[v1alpha1.AnnotationCSIUsers] = string(text)
}
