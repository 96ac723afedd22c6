package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mgr"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// A cluster is destroyed in steps, each of which is seen from what there is, so
// that a crash between two of them changes nothing:
//
//	the StorageCluster says that it is destroyed: from here on there is no way back
//	its Deployments are deleted, and their pods stop
//	a Job on each node empties the disks of its OSDs, and removes its mons' stores
//	what it has in Kubernetes is deleted, the keys as the last
//	the StorageCluster is let go of
//
// All of it rests on what the server says, never on a cache. That nothing uses a
// disk, and that its label is this cluster's, is seen once more on the node.

// Teardown is what the destruction of a cluster rests on.
type Teardown struct {
	stopping
	// Image with cairn-daemon.
	Image string
}

func (r *Reconciler) observeTeardown(ctx context.Context, cluster *v1alpha1.StorageCluster) (*Teardown, error) {
	o, err := r.fromServer().observe(ctx, cluster)
	if err != nil {
		return nil, err
	}
	t := &Teardown{stopping: stopping{Observed: o, skip: cluster.Spec.Deletion.SkipNodes, all: "stop all daemons", why: "disks in use are not emptied", skipField: "spec.deletion.skipNodes: what is on its disks stays then"}, Image: r.Image}
	var jobs batchv1.JobList
	if err := r.Live.List(ctx, &jobs, client.InNamespace(cluster.Namespace), client.MatchingLabels{kube.LabelCluster: cluster.Name}); err != nil {
		return nil, fmt.Errorf("list Jobs: %w", err)
	}
	t.Jobs = map[string]*batchv1.Job{}
	index(t.Jobs, jobs.Items)
	return t, nil
}

// fromServer is the reconciler with reads that no cache answers.
func (r *Reconciler) fromServer() *Reconciler {
	return &Reconciler{Client: serverReads{r.Client, r.Live}, Live: r.Live, Connections: r.Connections,
		Image: r.Image, Namespace: r.Namespace, Events: r.Events, Now: r.Now}
}

type serverReads struct {
	client.Client
	server client.Reader
}

// Get reads an object from the server.
func (c serverReads) Get(ctx context.Context, key client.ObjectKey, object client.Object, options ...client.GetOption) error {
	return c.server.Get(ctx, key, object, options...)
}

// List reads objects from the server.
func (c serverReads) List(ctx context.Context, list client.ObjectList, options ...client.ListOption) error {
	return c.server.List(ctx, list, options...)
}

// fsid of the cluster whose disks are to be emptied; empty for one that never had any.
func (t *Teardown) fsid() string {
	if t.Keys != nil {
		return cmp.Or(t.founded(), t.Keys.FSID)
	}
	return t.founded()
}

// Plan is the ordered list of what is left of a destruction.
func (t *Teardown) Plan() []Step {
	var steps []Step
	gate := ""
	if !destroying(t.Cluster) {
		begin := step("destroy", "destroy the cluster and all its data", "it was deleted, with spec.deletion.policy Destroy", unconfirmed(t.Cluster))
		begin.Reason, begin.Destroy = v1alpha1.ReasonNotConfirmed, true
		if begin.Gate == "" && t.hasData() && t.fsid() == "" {
			begin.Gate, begin.Reason = fmt.Sprintf("Secret %s is there, whose fsid tells the cluster's disks from others. Restore it, or set spec.deletion.policy to Retain and wipe the disks by hand", KeysName(t.Cluster)), v1alpha1.ReasonKeysMissing
		}
		steps, gate = append(steps, begin), "the destruction is written down"
	}
	steps = append(steps, t.stop(gate)...)
	steps = append(steps, t.endWork(gate)...)
	if gate == "" && len(steps) > 0 {
		gate = "all daemons have stopped"
	}
	for _, node := range t.nodes() {
		if s, left := t.wipe(node, gate); left {
			steps = append(steps, s)
		}
	}
	if gate == "" && len(steps) > 0 {
		gate = "every node is wiped"
	}
	if left := t.objects(); len(left) > 0 {
		s := step("forget", "delete the cluster's Services, claims, ConfigMaps and Secrets, its keys as the last", "no disk bears its data any more", gate)
		s.Delete = left
		steps = append(steps, s)
	}
	return steps
}

// endWork are the steps until no Job works on a disk or a mon's store that is to be
// removed: it would fail, or bring back what has been.
func (t *Teardown) endWork(gate string) (steps []Step) {
	for _, name := range slices.Sorted(maps.Keys(t.Jobs)) {
		job := t.Jobs[name]
		node := job.Spec.Template.Spec.NodeName
		if job.Labels[kube.LabelComponent] == wipeComponent || job.Status.Succeeded > 0 || job.DeletionTimestamp != nil && t.skipped(node) {
			continue
		}
		s := t.endJob(name, job, "what it works on is to be removed")
		if job.DeletionTimestamp != nil {
			s.Gate, s.Reason = t.absent(node), v1alpha1.ReasonNodeGone
		}
		s.Gate = cmp.Or(s.Gate, gate)
		steps = append(steps, s)
	}
	return steps
}

func destroying(cluster *v1alpha1.StorageCluster) bool {
	return cluster.Annotations[kube.AnnotationDestroying] != ""
}

// Confirmation is what spec.deletion.confirmation has to be.
func Confirmation(cluster *v1alpha1.StorageCluster) string {
	return "yes-destroy-all-data-of-" + cluster.Name
}

// ToBeDestroyed reports whether a cluster was deleted together with its data, and
// that was confirmed.
func ToBeDestroyed(cluster *v1alpha1.StorageCluster) bool {
	return cluster.DeletionTimestamp != nil && cluster.Spec.Deletion.Policy == v1alpha1.DeletionDestroy && unconfirmed(cluster) == ""
}

func unconfirmed(cluster *v1alpha1.StorageCluster) string {
	if cluster.Spec.Deletion.Confirmation == Confirmation(cluster) {
		return ""
	}
	return fmt.Sprintf("spec.deletion.confirmation is %s; set spec.deletion.policy to Retain to keep the data", Confirmation(cluster))
}

// stopping waits until no daemon of those observed runs.
type stopping struct {
	*Observed
	skip      []v1alpha1.NodeName // nodes that are given up
	all, why  string
	skipField string // the spec's field for such nodes, and what comes of it
}

// skipped reports whether a node is given up.
func (t *stopping) skipped(node string) bool {
	return slices.Contains(t.skip, v1alpha1.NodeName(node))
}

// stop are the steps until no daemon runs.
func (t *stopping) stop(gate string) (steps []Step) {
	running := step("stop", t.all, t.why, gate)
	for _, name := range slices.Sorted(maps.Keys(t.Deployments)) {
		if deployment := t.Deployments[name]; deployment.DeletionTimestamp == nil {
			running.Stop = append(running.Stop, deployment)
		}
	}
	if len(running.Stop) > 0 {
		steps = append(steps, running)
	}
	pods := map[string]bool{} // Deployments with pods
	for i := range t.Pods {
		pod := &t.Pods[i]
		component := pod.Labels[kube.LabelComponent]
		if !slices.Contains([]string{mon.Component, mgr.Component, osd.Component}, component) {
			continue
		}
		name := component + "-" + pod.Labels[kube.LabelInstance]
		pods[t.Cluster.Name+"-"+name] = true
		if t.skipped(pod.Spec.NodeName) {
			continue
		}
		s := step(name+"-stopped", fmt.Sprintf("wait for %s (pod %s on node %s) to stop%s", name, pod.Name, pod.Spec.NodeName, since(pod)), t.why, "")
		s.Wait = true
		if pod.Spec.NodeName != "" {
			s.Gate, s.Reason = t.absent(pod.Spec.NodeName), v1alpha1.ReasonNodeGone
		}
		steps = append(steps, s)
	}
	for _, name := range slices.Sorted(maps.Keys(t.Deployments)) {
		if deployment := t.Deployments[name]; deployment.DeletionTimestamp != nil && !pods[name] {
			s := step(name, fmt.Sprintf("wait for Deployment %s to be gone, asked for at %s", name, clock(deployment.DeletionTimestamp.Time)), "it could start a pod again", "")
			s.Wait = true
			steps = append(steps, s)
		}
	}
	return steps
}

func since(pod *corev1.Pod) string {
	if pod.DeletionTimestamp == nil {
		return ""
	}
	// The API server sets the time to that by which the pod has to be gone.
	grace := time.Duration(ptr.Deref(pod.DeletionGracePeriodSeconds, 0)) * time.Second
	return ", asked for at " + clock(pod.DeletionTimestamp.Add(-grace))
}

func clock(when time.Time) string { return when.UTC().Format(time.RFC3339) }

// absent says that nothing can be done on a node.
func (t *stopping) absent(name string) string {
	advice := "Bring it back; or, when it is gone for ever, add it to " + t.skipField
	node := t.node(name)
	if node == nil {
		return fmt.Sprintf("node %s is back: Kubernetes does not know it any more. %s", name, advice)
	}
	if kube.NodeAnswers(node) {
		return ""
	}
	if c := kube.ReadyCondition(node); c != nil {
		return fmt.Sprintf("node %s is ready, which it is not since %s. %s", name, clock(c.LastTransitionTime.Time), advice)
	}
	return fmt.Sprintf("node %s is ready. %s", name, advice)
}

// nodes are all on which something of the cluster may be. Where mons once had their
// stores nobody knows any more, so these are all that have an agent.
func (t *Teardown) nodes() []string {
	known := map[string]bool{}
	for _, secret := range t.Secrets {
		known[secret.Annotations[kube.AnnotationNode]] = true
	}
	for _, m := range t.Mons {
		known[m.Node] = true
	}
	if t.fsid() != "" || len(t.Deployments) > 0 || len(t.Jobs) > 0 || len(known) > 0 {
		for node := range t.Inventory {
			known[node] = true
		}
	}
	maps.DeleteFunc(known, func(node string, _ bool) bool { return node == "" || t.skipped(node) })
	return slices.Sorted(maps.Keys(known))
}

// wipe is the next step on one node, unless it is done.
func (t *Teardown) wipe(node, gate string) (s Step, left bool) {
	want := t.job(node)
	job := t.Jobs[want.Name]
	if job != nil && job.Status.Succeeded > 0 {
		return Step{}, false
	}
	s = step("wipe-"+node, "empty the disks of the cluster's OSDs on node "+node+", and remove its mons' stores there", "spec.deletion.policy is Destroy", gate)
	if absent := t.absent(node); absent != "" {
		s.Gate, s.Reason = absent, v1alpha1.ReasonNodeGone
		return s, true
	}
	if job == nil {
		s.Create = []client.Object{want}
		return s, true
	}
	s.What = fmt.Sprintf("wait for Job %s, which empties the disks of the cluster's OSDs on node %s, since %s", job.Name, node, clock(job.CreationTimestamp.Time))
	s.Wait = true
	return s, true
}

// objects are what is left in Kubernetes, in the order in which it goes. What is
// the StorageCluster's own goes with it.
func (t *Teardown) objects() (left []client.Object) {
	keys := KeysName(t.Cluster)
	for _, name := range slices.Sorted(maps.Keys(t.Services)) {
		left = append(left, t.Services[name])
	}
	for _, name := range slices.Sorted(maps.Keys(t.Claims)) {
		if claim := t.Claims[name]; osd.IsClaimOf(claim, t.Cluster, t.fsid()) {
			left = append(left, claim)
		}
	}
	for _, name := range slices.Sorted(maps.Keys(t.ConfigMaps)) {
		left = append(left, t.ConfigMaps[name])
	}
	for _, name := range slices.Sorted(maps.Keys(t.Secrets)) {
		if name != keys {
			left = append(left, t.Secrets[name])
		}
	}
	if secret := t.Secrets[keys]; secret != nil {
		left = append(left, secret)
	}
	return slices.DeleteFunc(left, func(object client.Object) bool {
		return object.GetLabels()[kube.LabelManagedBy] != kube.Manager || object.GetDeletionTimestamp() != nil
	})
}

// volumesOf are the names of the PersistentVolumes of a cluster.
func volumesOf(volumes []corev1.PersistentVolume, driver, fsid string) (names []string) {
	code := strings.ReplaceAll(fsid, "-", "")
	for i := range volumes {
		source := volumes[i].Spec.CSI
		if fsid != "" && source != nil && source.Driver == driver && slices.Contains(strings.Split(source.VolumeHandle, "."), code) {
			names = append(names, volumes[i].Name)
		}
	}
	slices.Sort(names)
	return names
}
