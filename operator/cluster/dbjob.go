package cluster

import (
	"context"
	"crypto/sha256"
	"encoding/hex"
	"fmt"
	"maps"
	"slices"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// freeComponent is the label of the Jobs that empty DB devices.
const freeComponent = "free-db"

// observeFreeing reads the Jobs that empty devices of OSDs that are gone.
func (r *Reconciler) observeFreeing(ctx context.Context, o *Observed) error {
	leaving, emptied := false, false
	for _, secret := range o.Secrets {
		leaves := secret.Annotations[kube.AnnotationLeaving] != ""
		leaving = leaving || leaves
		emptied = emptied || leaves && (secret.Annotations[kube.AnnotationDB] != "" || o.toBeWiped(osd.TargetOf(secret)))
	}
	if !leaving {
		return nil
	}
	if o.Jobs == nil {
		o.Jobs = map[string]*batchv1.Job{}
	}
	jobs, err := r.emptyingJobs(ctx, o.Cluster)
	if err != nil {
		return err
	}
	index(o.Jobs, jobs)
	if !emptied {
		return nil
	}
	// An old list does not show what is there, and the device would keep it for ever.
	return r.observeInventory(ctx, o, r.Live)
}

// freeDB is the next step until the DB device of an OSD that Ceph does not know any more is
// free. The Job that empties it goes before the OSD's Secret: what may come after it under
// the same UUID must not meet it.
func (p *planner) freeDB(target osd.Target) (s Step, left bool) {
	db, known := p.o.madeWith(target.UUID)
	if !known || db == "" {
		return s, false
	}
	node, job := p.o.nodeWithDB(target), p.o.Jobs[p.o.freeingName(target.UUID)]
	if job == nil && node == "" {
		return s, false
	}
	what := fmt.Sprintf("empty the DB device %s of the OSD of %s on node %s", db, target.Device, target.Node)
	s = step(target.Name()+"-db", what, "Ceph knows that OSD no more", p.dbGate(target))
	s.Reason = v1alpha1.ReasonNotSafeToRemove
	return p.byEmptying(s, p.o.freeingJob(p.d.helperImage, target, node), node, db, "Bring it back; or, when it is gone for ever, delete it from Kubernetes"), true
}

// dbGate says what must hold before the database of an OSD that has left is emptied. The OSD
// that takes its place, on the same DB device, does not start before.
func (p *planner) dbGate(old osd.Target) string {
	if by := replaced(p.d.Targets, old); by != nil && p.o.osd(by.UUID) == nil && p.o.needsDBOf(*by, old) {
		return ""
	}
	gate := p.cleanGate(old)
	if gate != "" {
		gate += ": until then its disk may be the last that has something, and nobody reads it without its database"
	}
	return gate
}

// needsDBOf reports whether a target is to have the DB device that has another's database.
func (o *Observed) needsDBOf(target, other osd.Target) bool {
	device := osd.Find(o.Inventory[target.Node], target.DB)
	return target.DB != "" && device != nil && device.DBOf == other.UUID
}

// byEmptying completes a step that a Job does, until no node shows what it empties. When the
// node does not answer the advice says how to go on.
func (p *planner) byEmptying(s Step, want *batchv1.Job, node, device, advice string) Step {
	job := p.o.Jobs[want.Name]
	switch {
	case job != nil && job.DeletionTimestamp != nil:
		end := p.o.endJob(s.Name, job, s.Why)
		s.What, s.Gate, s.Reason, s.Wait = end.What, end.Gate, end.Reason, true
	case job != nil && job.Annotations[kube.AnnotationNode] != node:
		s.Name += "-done"
		s.What, s.Gate, s.Risk, s.Stop = "delete Job "+job.Name+", whose work is done", "", v1alpha1.RiskNone, []client.Object{job}
	case p.o.node(node) == nil || !kube.NodeAnswers(p.o.node(node)):
		s.Gate, s.Reason = fmt.Sprintf("node %s, which has the device, is ready. %s", node, advice), v1alpha1.ReasonNodeGone
	case job == nil:
		s.Create = []client.Object{want}
	case p.o.inVain(job):
		s.Name += "-again"
		s.What, s.Gate, s.Risk, s.Stop = fmt.Sprintf("delete Job %s, to run it again: it ended at %s, and node %s still shows the device %s as it was", job.Name, clock(job.Status.CompletionTime.Time), node, device),
			"", v1alpha1.RiskNone, []client.Object{job}
	case job.Status.Succeeded > 0:
		s.What, s.Gate, s.Wait = fmt.Sprintf("wait until node %s shows the device %s to be empty, as Job %s left it. If that lasts, see whether the node's agent runs: 'kubectl -n cairn-system get pods -l app.kubernetes.io/component=agent -o wide'", node, device, job.Name), "", true
	default:
		s.What, s.Gate, s.Wait = fmt.Sprintf("wait for Job %s, which is to %s, since %s", job.Name, s.What, clock(job.CreationTimestamp.Time)), "", true
	}
	return s
}

// shownWithin is how long a node's agent may take to show what a Job did.
const shownWithin = time.Minute

// inVain reports whether a Job succeeded so long ago that its node should show what it did.
func (o *Observed) inVain(job *batchv1.Job) bool {
	return job.Status.Succeeded > 0 && job.Status.CompletionTime != nil && o.Now.Sub(job.Status.CompletionTime.Time) > shownWithin
}

// pathShown is the path of a node's device of which something holds; empty when it has no
// stable name.
func (o *Observed) pathShown(node string, holds func(v1alpha1.Device) bool) string {
	seen := o.Inventory[node]
	if seen == nil {
		return ""
	}
	at := slices.IndexFunc(seen.Status.Devices, holds)
	if at < 0 || seen.Status.Devices[at].ID == "" {
		return ""
	}
	return osd.Target{Device: seen.Status.Devices[at].ID}.Path()
}

func (o *Observed) freeingName(uuid string) string {
	return fmt.Sprintf("%s-free-db-%s", o.Cluster.Name, o.freeingInstance(uuid))
}

// freeingInstance is this StorageCluster's own.
func (o *Observed) freeingInstance(uuid string) string {
	sum := sha256.Sum256([]byte(string(o.Cluster.UID) + "/" + uuid))
	return hex.EncodeToString(sum[:6])
}

// freeingJob empties the DB device of one OSD, and fails where that cannot be read. The label
// is looked at once more on the node.
func (o *Observed) freeingJob(image string, target osd.Target, node string) *batchv1.Job {
	command := []string{"cairn-daemon", "wipe", "--fsid", o.Keys.FSID, "--osd", target.UUID, "--db-only"}
	if path := o.pathShown(node, func(d v1alpha1.Device) bool { return d.DBOf == target.UUID }); path != "" {
		command = append(command, "--device", path)
	}
	return o.goesWith(target, wipeJob(o.Cluster, freeComponent, o.freeingName(target.UUID), o.freeingInstance(target.UUID), image, node, command))
}

// goesWith has a Job for an OSD that has left belong to the OSD's Secret, and to nothing else:
// one that is created late, when all is over, is deleted with what there is no more. What is
// made under the same UUID later has another Secret.
func (o *Observed) goesWith(target osd.Target, job *batchv1.Job) *batchv1.Job {
	if secret := o.Secrets[osd.SecretName(o.Cluster, target.UUID)]; secret != nil {
		job.OwnerReferences = []metav1.OwnerReference{{APIVersion: "v1", Kind: "Secret", Name: secret.Name, UID: secret.UID}}
	}
	return job
}

// endEmptying deletes the Jobs that empty devices, when the StorageCluster goes: the Secrets,
// which they belong to, may stay.
func (r *Reconciler) endEmptying(ctx context.Context, cluster *v1alpha1.StorageCluster) error {
	jobs, err := r.emptyingJobs(ctx, cluster)
	if err != nil {
		return err
	}
	for i := range jobs {
		if err := r.delete(ctx, &jobs[i], client.PropagationPolicy(metav1.DeletePropagationBackground)); err != nil {
			return err
		}
	}
	return nil
}

// emptyingJobs are the Jobs that empty devices of OSDs that are gone.
func (r *Reconciler) emptyingJobs(ctx context.Context, cluster *v1alpha1.StorageCluster) (found []batchv1.Job, err error) {
	for _, component := range []string{freeComponent, emptyComponent} {
		var jobs batchv1.JobList
		if err := r.Live.List(ctx, &jobs, client.InNamespace(cluster.Namespace), client.MatchingLabels{kube.LabelCluster: cluster.Name, kube.LabelComponent: component}); err != nil {
			return nil, fmt.Errorf("list Jobs: %w", err)
		}
		found = append(found, jobs.Items...)
	}
	return found, nil
}

// wipeJob runs cairn-daemon on a node until it succeeds; why it does not is in the
// StorageCluster's status.
func wipeJob(cluster *v1alpha1.StorageCluster, component, name, instance, image, node string, command []string) *batchv1.Job {
	job := &batchv1.Job{
		ObjectMeta: kube.Meta(cluster, name, component, instance),
		Spec: batchv1.JobSpec{
			BackoffLimit: ptr.To[int32](1 << 20),
			Template: corev1.PodTemplateSpec{
				ObjectMeta: metav1.ObjectMeta{Labels: kube.Labels(cluster, component, instance)},
				Spec:       wipePod(cluster, component, image, node, command),
			},
		},
	}
	job.Annotations[kube.AnnotationNode] = node
	return job
}

// emptied has what a Job empties be gone from its device.
func (w *imagined) emptied(job *batchv1.Job) {
	w.Inventory = maps.Clone(w.Inventory)
	for node, seen := range w.Inventory {
		seen = seen.DeepCopy()
		for i := range seen.Status.Devices {
			d := &seen.Status.Devices[i]
			if d.DBOf != "" && w.freeingName(d.DBOf) == job.Name || d.OSD != nil && w.wipingName(d.OSD.UUID) == job.Name {
				d.DBOf, d.OSD, d.Usable, d.Reason, d.Message = "", nil, true, "", ""
			}
		}
		w.Inventory[node] = seen
	}
}
