package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/labels"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/disruption"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// Desired is what should exist. What cannot be said yet, because something it
// rests on does not exist, is missing from it and comes with a later look.
type Desired struct {
	Mons []mon.Mon
	// Retiring is a mon that goes: it is lost, or there are more than the spec asks for.
	Retiring       *Retiring
	MonServices    []*corev1.Service
	Configuration  []*corev1.ConfigMap
	Keyrings       []*corev1.Secret
	MonDeployments []*appsv1.Deployment
	MgrDeployments []*appsv1.Deployment
	Targets        []osd.Target
	// NewClaims are to be made, GrownClaims to be larger.
	NewClaims, GrownClaims []*corev1.PersistentVolumeClaim
	// Leaving are OSDs that the spec has let go of.
	Leaving        []osd.Target
	OSDSecrets     []*corev1.Secret
	OSDDeployments []*appsv1.Deployment
	Problems       []osd.Problem
	// Options are nil while nothing may be made, because of WrongOptions.
	Options      *options
	WrongOptions []osd.Problem
	// NetworkGate says why encryption can neither begin nor end now; NetworkReason is the blocker's.
	NetworkGate, NetworkReason string
	// Drain says which daemons may be evicted.
	Drain           *disruption.Decision
	missingMonNodes int
	helperImage     string
}

// desired derives what should exist from the spec and what was observed.
func desired(o *Observed, helperImage string) *Desired {
	o.lookup = lookup{}
	d := &Desired{Drain: disruption.Decide(o.drain()), helperImage: helperImage}
	count := int(o.Cluster.Spec.Mon.Count)
	d.Mons = d.desireMons(o)
	if missing := count - len(d.Mons) - len(o.unrecorded()); missing > 0 && d.Retiring == nil && !o.noMoreMons() {
		d.missingMonNodes = missing
		d.Problems = append(d.Problems, osd.Problem{Reason: v1alpha1.ReasonNotEnoughNodes, Message: fmt.Sprintf(
			"%d mons need %d ready nodes that match spec.placement.nodeSelector, one more each; %d mons have one. Add nodes, uncordon them, or set spec.mon.allowSharedNode",
			count, count, len(d.Mons))})
	}
	d.desireOptions(o)
	if o.Keys == nil || o.monsMissing() || o.onOtherNetwork() || d.Options == nil {
		return d
	}
	for _, m := range d.Mons {
		if m.Address == "" && mon.OnHost(o.Cluster) {
			m.Address = o.nodeAddress(m.Node)
		}
		d.MonServices = append(d.MonServices, mon.Service(o.Cluster, o.Keys.FSID, m))
	}
	d.Keyrings = o.Keys.keyrings(o.Cluster, d.withRetiring(o), mgrNames(o.Cluster))
	d.desireDaemons(o)
	d.desireOSDs(o, helperImage)
	d.oldImages(o)
	d.readAtStart(o)
	return d
}

// withRetiring are the mons that there should be, and the one that goes, for as long as it
// is of the monmap: without its store it must not begin anew until then.
func (d *Desired) withRetiring(o *Observed) []mon.Mon {
	if d.Retiring == nil || o.Ceph == nil || !o.inMap(d.Retiring.Mon) {
		return d.Mons
	}
	mons := append(slices.Clone(d.Mons), d.Retiring.Mon)
	slices.SortFunc(mons, func(a, b mon.Mon) int { return strings.Compare(a.Name, b.Name) })
	return mons
}

// desireDaemons adds configuration, mons and mgrs, once every mon has its address.
func (d *Desired) desireDaemons(o *Observed) {
	if d.missingMonNodes > 0 && len(o.Mons) == 0 || slices.ContainsFunc(d.Mons, func(m mon.Mon) bool { return m.Address == "" }) {
		return
	}
	d.Configuration = []*corev1.ConfigMap{configMap(o.Cluster, o.Keys.FSID, d.Mons, d.Options)}
	encrypted := d.inForce(o).Encrypted
	for _, m := range d.Mons {
		live := o.Deployments[mon.ObjectName(o.Cluster, m.Name)]
		d.MonDeployments = append(d.MonDeployments, mon.Deployment(o.Cluster, o.Keys.FSID, m, d.Mons, live, encrypted))
	}
	for _, name := range mgrNames(o.Cluster) {
		live := o.Deployments[mgr.ObjectName(o.Cluster, name)]
		d.MgrDeployments = append(d.MgrDeployments, useKey(mgr.Deployment(o.Cluster, name), live, o.Keys.of("mgr."+name).wanted()))
	}
}

func (d *Desired) desireOSDs(o *Observed, helperImage string) {
	targets, problems := osd.Targets(o.Cluster, o.Keys.FSID, o.Nodes, o.Inventory, o.madeOSDs())
	targets = d.encrypted(o, d.withDBs(o, d.withoutLeft(o, targets)))
	claimed := d.claimTargets(o)
	onClaims := o.onClaims()
	maps.Copy(onClaims, uuids(claimed))
	targets = append(slices.DeleteFunc(targets, func(t osd.Target) bool { return onClaims[t.UUID] }), claimed...)
	d.Leaving = o.leaving(targets)
	d.Targets = append(targets, d.keptEncrypted(o, o.keptTargets(uuids(append(slices.Clone(targets), d.Leaving...))))...)
	d.Problems = append(d.Problems, withoutKept(problems, d.Targets)...)
	d.Problems = append(d.Problems, o.notStarted(d)...)
	for i, target := range append(slices.Clone(d.Targets), d.Leaving...) {
		known, key := o.osd(target.UUID), o.OSDKeys[target.UUID]
		node := o.node(target.Node)
		if known == nil || key == "" || node == nil && target.Claim == "" || o.lostEncryptionKey(target) {
			continue
		}
		live := o.Deployments[osd.DeploymentName(o.Cluster, known.ID)]
		target.Size, target.InitialWeight = o.claimSize(target), initialWeight(target, known, live)
		formatted := known.Up || known.Weight > 0 && !known.New || osd.Formatted(o.Secrets[osd.SecretName(o.Cluster, target.UUID)])
		secret := o.osdSecret(target, known.ID, formatted)
		leaves := i >= len(d.Targets)
		o.noteWeight(secret, known)
		o.noteChosen(secret, target, known, leaves)
		if leaves || o.marked(target.UUID) && !known.In {
			secret.Annotations[kube.AnnotationLeaving] = "true" // until data is placed on it again
		}
		d.OSDSecrets = append(d.OSDSecrets, secret)
		if d.staysGivenUp(o, secret, known, target, leaves) {
			continue
		}
		// One that leaves is left as it is while it runs, and comes back while it is needed.
		if leaves && (live != nil || !o.comesBack(known)) {
			continue
		}
		made := osd.Deployment(o.Cluster, o.Keys.FSID, helperOf(live, helperImage), target, known.ID, node)
		d.OSDDeployments = append(d.OSDDeployments, useKey(made, live, osdKeys(o.Secrets[secret.Name]).wanted()))
	}
}

// madeOSDs are the OSDs on devices that there are, by their UUIDs, as their Secrets say.
func (o *Observed) madeOSDs() map[string]osd.Made {
	made := map[string]osd.Made{}
	for _, secret := range o.Secrets {
		if t := osd.TargetOf(secret); t.UUID != "" && t.Claim == "" {
			known := o.osd(t.UUID)
			made[t.UUID] = osd.Made{Target: t, Stopped: osd.Formatted(secret) && o.Ceph != nil && (known == nil || !known.Up),
				MayRun: o.Ceph == nil || known != nil && known.Up}
		}
	}
	return made
}

// keptTargets are OSDs that run, on devices that the inventory does not show as
// targets now: an agent that is slow must not take an OSD away.
func (o *Observed) keptTargets(targets map[string]bool) (kept []osd.Target) {
	for _, deployment := range o.Deployments {
		if target := osd.TargetOf(deployment); deployment.Labels[kube.LabelComponent] == osd.Component && !targets[target.UUID] {
			if secret := o.Secrets[osd.SecretName(o.Cluster, target.UUID)]; secret != nil && target.Claim != "" {
				target = osd.TargetOf(secret)
			}
			target.Kept = true
			kept = append(kept, target)
		}
	}
	slices.SortFunc(kept, func(a, b osd.Target) int { return strings.Compare(a.Name(), b.Name()) })
	return kept
}

// withoutKept drops problems with devices on which an OSD runs all the same.
func withoutKept(problems []osd.Problem, targets []osd.Target) []osd.Problem {
	if len(problems) == 0 {
		return problems
	}
	runs := make(map[string]bool, len(targets))
	for _, t := range targets {
		runs[fmt.Sprintf("device %q on node %s", t.Device, t.Node)] = true
	}
	return slices.DeleteFunc(problems, func(p osd.Problem) bool {
		device, _, refused := strings.Cut(p.Message, " is refused")
		return refused && runs[device]
	})
}

// helperOf keeps the helper image of an OSD that runs, so that an upgrade of
// the operator restarts no OSD.
func helperOf(live *appsv1.Deployment, image string) string {
	if live != nil && len(live.Spec.Template.Spec.InitContainers) > 0 {
		return live.Spec.Template.Spec.InitContainers[0].Image
	}
	return image
}

// monNodes are the nodes that may get a mon.
func monNodes(o *Observed) (nodes []corev1.Node) {
	selector := labels.SelectorFromSet(o.Cluster.Spec.Placement.NodeSelector)
	for i := range o.Nodes {
		node := &o.Nodes[i]
		if mon.OnHost(o.Cluster) && o.nodeAddress(node.Name) == "" {
			continue
		}
		if takesPods(node, o.Cluster) && selector.Matches(labels.Set(node.Labels)) {
			nodes = append(nodes, *node)
		}
	}
	return nodes
}

// takesPods reports whether a pod of the cluster's daemons that is made now runs on a node;
// not on one that is not known.
func takesPods(node *corev1.Node, cluster *v1alpha1.StorageCluster) bool {
	return node != nil && kube.NodeReady(node) && tolerated(node.Spec.Taints, cluster.Spec.Placement.Tolerations)
}

func tolerated(taints []corev1.Taint, tolerations []corev1.Toleration) bool {
	for i := range taints {
		if taints[i].Effect == corev1.TaintEffectPreferNoSchedule {
			continue
		}
		if !kube.Tolerated(taints[i], tolerations) {
			return false
		}
	}
	return true
}

func mgrNames(cluster *v1alpha1.StorageCluster) []string { return mgr.Names[:cluster.Spec.Mgr.Count] }
