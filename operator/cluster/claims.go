package cluster

import (
	"cmp"
	"context"
	"errors"
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"
	apierrors "k8s.io/apimachinery/pkg/api/errors"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/disruption"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// An OSD on a PersistentVolumeClaim is made in steps, each of which is seen from what
// there is:
//
//	the claim is made; its UID gives the OSD its UUID
//	the OSD gets its Secret and its ID, as on a disk
//	its Deployment is made: the pod is what a claim that waits for its first consumer is bound for
//	the Secret says where in the CRUSH map the OSD is: the pod waits for it
//
// Where it is stays as it was written first. When the OSD leaves, its claim is deleted once
// Ceph knows the OSD no more, and the Secret as the last. A claim that is gone under an OSD
// is never made anew in its place: the spec lets go of its index first.

// observeVolumes reads the PersistentVolumes of claims whose place is not written down yet.
func (r *Reconciler) observeVolumes(ctx context.Context, o *Observed) error {
	o.Volumes = map[string]*corev1.PersistentVolume{}
	for _, claim := range o.Claims {
		name := claim.Spec.VolumeName
		if name == "" || claim.Status.Phase != corev1.ClaimBound || o.Keys == nil {
			continue
		}
		if secret := o.Secrets[osd.SecretName(o.Cluster, osd.ClaimUUID(o.Keys.FSID, claim.UID))]; secret != nil && osd.TargetOf(secret).Location != "" {
			continue
		}
		var volume corev1.PersistentVolume
		switch err := r.Live.Get(ctx, client.ObjectKey{Name: name}, &volume); {
		case err == nil:
			o.Volumes[name] = &volume
		case !apierrors.IsNotFound(err):
			return fmt.Errorf("read PersistentVolume %s: %w", name, err)
		}
	}
	return nil
}

// claim of this cluster by its name; nil when there is none.
func (o *Observed) claim(name string) *corev1.PersistentVolumeClaim {
	if claim := o.Claims[name]; claim != nil && o.Keys != nil && osd.IsClaimOf(claim, o.Cluster, o.Keys.FSID) {
		return claim
	}
	return nil
}

// claimOf the OSD with a UUID: no other of its name.
func (o *Observed) claimOf(t osd.Target) *corev1.PersistentVolumeClaim {
	if claim := o.claim(t.Claim); claim != nil && osd.ClaimUUID(o.Keys.FSID, claim.UID) == t.UUID {
		return claim
	}
	return nil
}

// claimTargets are the OSDs on claims that there are; it notes the claims that are to be made
// or to grow, and what is wrong with others.
func (d *Desired) claimTargets(o *Observed) (targets []osd.Target) {
	lost := o.lostClaims()
	for _, want := range osd.WantedClaims(o.Cluster) {
		made, live := osd.Claim(o.Cluster, o.Keys.FSID, want), o.claim(want.Name)
		if why := lost[want.Name]; why != "" {
			d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonClaimLost, Message: why})
			if live == nil {
				continue
			}
		}
		if live == nil || live.DeletionTimestamp != nil && o.osd(osd.ClaimUUID(o.Keys.FSID, live.UID)) == nil {
			d.NewClaims = append(d.NewClaims, made)
			continue
		}
		if size := live.Spec.Resources.Requests[corev1.ResourceStorage]; want.Set.Size.Cmp(size) > 0 && live.DeletionTimestamp == nil {
			d.GrownClaims = append(d.GrownClaims, made)
		}
		target, problem := o.claimTarget(live, want)
		if problem != "" {
			d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonClaimNotUsable, Message: problem})
		}
		targets = append(targets, target)
	}
	return targets
}

// claimTarget is the OSD on a claim, and what keeps it from having a place.
func (o *Observed) claimTarget(claim *corev1.PersistentVolumeClaim, want osd.WantedClaim) (t osd.Target, problem string) {
	t = osd.Target{Claim: claim.Name, UUID: osd.ClaimUUID(o.Keys.FSID, claim.UID), Class: string(cmp.Or(want.Set.DeviceClass, o.Cluster.Spec.Storage.DeviceClass))}
	secret := o.Secrets[osd.SecretName(o.Cluster, t.UUID)]
	if secret != nil {
		written := osd.TargetOf(secret)
		t.Location, t.Node = written.Location, written.Node
	}
	if volume := o.Volumes[claim.Spec.VolumeName]; t.Location == "" && volume != nil {
		var why string
		if t.Location, t.Node, why = osd.PlaceClaim(claim.Name, want.Set.Portable, volume, o.Nodes); why != "" {
			problem = fmt.Sprintf("the OSD of claim %s does not start: %s. Set its index in spec.storage.claims[%s].skip, or the count to 0, and make a set with another name%s",
				claim.Name, why, want.Set.Name, map[bool]string{true: "", false: " and portable: true"}[want.Set.Portable])
		}
	}
	return t, problem
}

// onClaims are the UUIDs of the OSDs that are on claims, asked for or not: what a node shows
// of one while its volume is attached is no disk of the node.
func (o *Observed) onClaims() map[string]bool {
	out := map[string]bool{}
	for _, secret := range o.Secrets {
		if secret.Annotations[kube.AnnotationClaim] != "" {
			out[secret.Annotations[kube.AnnotationUUID]] = true
		}
	}
	return out
}

// claimSize is the size of its claim with which an OSD's pod is started: it stays until the
// claim has grown as it was asked to.
func (o *Observed) claimSize(t osd.Target) string {
	live, claim := o.osdDeployment(t.UUID), o.claimOf(t)
	before := ""
	if live != nil {
		before = live.Spec.Template.Annotations[kube.AnnotationClaimSize]
	}
	if claim == nil {
		return before
	}
	asked, has := claim.Spec.Resources.Requests[corev1.ResourceStorage], claim.Status.Capacity[corev1.ResourceStorage]
	switch {
	case has.Cmp(asked) >= 0 || live == nil && has.IsZero():
		return asked.String()
	case live == nil:
		return has.String()
	}
	return before
}

// lostClaims says of claims that they are gone, or are about to, under OSDs that the spec
// wants: name → why.
func (o *Observed) lostClaims() map[string]string {
	lost := map[string]string{}
	for _, secret := range o.Secrets {
		t := osd.TargetOf(secret)
		id, numbered := osd.ID(secret)
		if t.Claim == "" || !numbered || !o.wantsClaim(t.Claim) || o.Ceph != nil && o.osd(t.UUID) == nil {
			continue
		}
		it, is := fmt.Sprintf("claim %s of osd.%d", t.Claim, id), ""
		switch claim := o.claimOf(t); {
		case claim == nil && o.Claims[t.Claim] != nil:
			is = it + " was deleted, and there is another one of its name"
		case claim == nil:
			is = it + " was deleted"
		case claim.Status.Phase == corev1.ClaimLost:
			is = it + " has lost its PersistentVolume " + claim.Spec.VolumeName
		case claim.DeletionTimestamp != nil:
			is = fmt.Sprintf("%s is being deleted since %s, and is gone when the OSD stops", it, clock(claim.DeletionTimestamp.Time))
		default:
			continue
		}
		lost[t.Claim] = fmt.Sprintf("%s. No new one takes its place. To have the OSD's data made anew on others and the OSD removed, name its index in spec.storage.claims[].skip: another index takes its place", is)
	}
	return lost
}

// claimLeaves reports whether the spec has let go of the claim of an OSD; or the claim is gone,
// and Ceph does not know the OSD.
func (o *Observed) claimLeaves(t osd.Target) bool {
	return !o.wantsClaim(t.Claim) || o.Ceph != nil && o.osd(t.UUID) == nil && o.claimOf(t) == nil
}

// claims are made, and grow, before OSDs are made on them.
func (p *planner) claims() error {
	for _, claim := range p.d.NewClaims {
		s := step("claim-"+claim.Name, "make PersistentVolumeClaim "+claim.Name, "the spec asks for an OSD on it", "")
		if p.o.claim(claim.Name) != nil {
			s.What, s.Why, s.Wait = "wait for PersistentVolumeClaim "+claim.Name+" to be gone", "it was deleted, and one of its name is made anew then", true
		} else {
			s.MakeClaim = claim
		}
		p.add(s)
	}
	for _, claim := range p.d.GrownClaims {
		size := claim.Spec.Resources.Requests[corev1.ResourceStorage]
		s := step("claim-"+claim.Name, fmt.Sprintf("grow PersistentVolumeClaim %s to %s", claim.Name, size.String()), "the spec asks for it", "")
		s.Apply = []client.Object{claim}
		p.add(s)
	}
	return nil
}

// dropClaim is the step that deletes the claim of an OSD which is no more.
func (p *planner) dropClaim(claim *corev1.PersistentVolumeClaim) Step {
	s := step("claim-"+claim.Name, "delete PersistentVolumeClaim "+claim.Name, "the spec does not ask for it any more, and Ceph knows no OSD on it", "")
	s.DropClaim = claim
	return s
}

// strayClaims are those on which an OSD was never made, and that are not asked for any more.
func (p *planner) strayClaims() error {
	if p.o.Ceph == nil {
		return nil
	}
	var stray []Step
	for name := range p.o.Claims {
		claim := p.o.claim(name)
		if claim == nil || claim.DeletionTimestamp != nil || p.o.wantsClaim(name) {
			continue
		}
		if uuid := osd.ClaimUUID(p.o.Keys.FSID, claim.UID); p.o.osd(uuid) == nil && p.o.Secrets[osd.SecretName(p.o.Cluster, uuid)] == nil {
			stray = append(stray, p.dropClaim(claim))
		}
	}
	slices.SortFunc(stray, func(a, b Step) int { return strings.Compare(a.Name, b.Name) })
	p.steps = append(p.steps, stray...)
	return nil
}

// makeClaim makes a claim, and refuses one of its name that is somebody else's.
func (r *Reconciler) makeClaim(ctx context.Context, o *Observed, claim *corev1.PersistentVolumeClaim) error {
	err := r.Client.Create(ctx, claim.DeepCopy(), client.FieldOwner(kube.Manager))
	if !apierrors.IsAlreadyExists(err) {
		return err
	}
	var live corev1.PersistentVolumeClaim
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(claim), &live); err != nil {
		return fmt.Errorf("read PersistentVolumeClaim %s: %w", claim.Name, err)
	}
	if !osd.IsClaimOf(&live, o.Cluster, o.Keys.FSID) {
		return fmt.Errorf("there is a PersistentVolumeClaim %s that was not made for this cluster. Give the set in spec.storage.claims another name, or remove the claim when nobody needs what is on it", claim.Name)
	}
	return nil
}

// drop deletes a claim when the server says now that the spec does not ask for it, and Ceph
// that it knows no OSD on it.
func (r *Reconciler) drop(ctx context.Context, o *Observed, claim *corev1.PersistentVolumeClaim) error {
	var cluster v1alpha1.StorageCluster
	if err := r.Live.Get(ctx, client.ObjectKeyFromObject(o.Cluster), &cluster); err != nil {
		return fmt.Errorf("read the StorageCluster: %w", err)
	}
	if cluster.UID != o.Cluster.UID || (&Observed{Cluster: &cluster}).wantsClaim(claim.Name) {
		return nil // the next look decides anew
	}
	uuid := osd.ClaimUUID(o.Keys.FSID, claim.UID)
	if err := r.inCeph(ctx, o, func(ctx context.Context, conn ceph.Conn) error {
		osds, err := conn.OSDs(ctx)
		if err == nil && slices.ContainsFunc(osds, func(known ceph.OSD) bool { return known.UUID == uuid }) {
			err = errors.New("Ceph knows the OSD on it still") //nolint:staticcheck // a name
		}
		return err
	}); err != nil {
		return fmt.Errorf("delete PersistentVolumeClaim %s: %w", claim.Name, err)
	}
	return r.delete(ctx, claim)
}

// hosts are what OSDs can be in as hosts of the CRUSH map: nodes and portable claims.
func (o *Observed) hosts() []corev1.Node {
	hosts := slices.Clone(o.Nodes)
	for _, secret := range o.Secrets {
		if host, ok := osd.ClaimHost(secret); ok {
			hosts = append(hosts, host)
		}
	}
	return hosts
}

// nodeOf an OSD: that of its device; or on a claim the one where it runs, else the one that
// the claim is bound to, if it is bound to one.
func (o *Observed) nodeOf(t osd.Target, pod *corev1.Pod) string {
	if t.Claim == "" {
		return t.Node
	}
	if pod != nil {
		return pod.Spec.NodeName
	}
	if secret := o.Secrets[osd.SecretName(o.Cluster, t.UUID)]; secret != nil {
		return osd.TargetOf(secret).Node
	}
	return ""
}

// closedTo reports whether a pod is of an OSD whose claim is bound to a node that takes no pods.
func (o *Observed) closedTo(pod *corev1.Pod) bool {
	deployment := o.Deployments[o.Cluster.Name+"-"+pod.Labels[kube.LabelComponent]+"-"+pod.Labels[kube.LabelInstance]]
	if deployment == nil || deployment.Annotations[kube.AnnotationClaim] == "" {
		return false
	}
	return disruption.Cordoned(o.node(o.nodeOf(osd.TargetOf(deployment), nil)), o.Cluster.Spec.Placement.Tolerations)
}
