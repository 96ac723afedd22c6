package cluster

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	policyv1 "k8s.io/api/policy/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/osd"
)

// A plan holds what can be said now: what follows from a step shows at the next
// look. To say all that a spec leads to, each step is made to happen in memory,
// and the same planner looks again, until nothing is left or nothing goes on.

// Foresight is what a spec leads to.
type Foresight struct {
	// Steps in the order in which they come; each has the gate that it waits for first.
	Steps []v1alpha1.PlanStep `json:"steps"`
	// Blocker is what the plan stops at, and Stop the step there; both are empty
	// when it leads to a cluster as specified.
	Blocker *v1alpha1.Blocker `json:"blocker,omitempty"`
	Stop    string            `json:"stop,omitempty"`
	// Capacity is raw, in bytes.
	CapacityBefore int64 `json:"capacityBefore"`
	CapacityAfter  int64 `json:"capacityAfter"`
	Used           int64 `json:"used"`
	// Moves are the data that Ceph moves, in the order of the steps that make it do so.
	Moves []Move `json:"moves,omitempty"`
	// MovesUnknown is why that cannot be said.
	MovesUnknown string `json:"movesUnknown,omitempty"`
	// Assumes is what cannot be known before it happens.
	Assumes []string `json:"assumes,omitempty"`
	changes []movement
}

// Foresee says what a StorageCluster with this spec leads to. It reads, and writes nothing.
func (r *Reconciler) Foresee(ctx context.Context, cluster *v1alpha1.StorageCluster) (*Foresight, error) {
	o, err := r.observe(ctx, cluster)
	if err != nil {
		return nil, err
	}
	if ceph.Is(o.CephError, ceph.Unreached) && anyRunning(o.Pods, mon.Component) {
		select { // the connection is being opened
		case <-r.Connections.Wake:
		case <-ctx.Done():
			return nil, fmt.Errorf("connect to Ceph (%w): %w", o.CephError, ctx.Err())
		}
		if o, err = r.observe(ctx, cluster); err != nil {
			return nil, err
		}
	}
	f, err := foresee(o, r.Image)
	if err != nil {
		return nil, err
	}
	r.weigh(ctx, o, f)
	return f, nil
}

// often is how often one step may come again: a Secret is written more than once.
const often = 4

// foresee lets the plan of what was observed happen, step by step.
func foresee(o *Observed, helperImage string) (*Foresight, error) {
	w := imagine(o)
	f := &Foresight{CapacityBefore: w.capacity(), Used: w.used()}
	settled := false
	for {
		want := desired(w.Observed, helperImage)
		steps, err := Plan(w.Observed, want)
		if err != nil {
			return nil, err
		}
		steps = slices.DeleteFunc(steps, func(s Step) bool { return s.Notes || protects(s) })
		open := w.look(f, steps)
		if len(open) == 0 && (settled || len(steps) == 0) {
			f.finish(o.Cluster, w, want, steps)
			return f, nil
		}
		settled = len(open) == 0
		if settled {
			w.settle()
		}
		w.changes = append(w.changes, movement{})
		for _, s := range open {
			if err := w.happen(s); err != nil {
				return nil, err
			}
		}
	}
}

// protects reports whether a step says which daemons may be evicted. Those come and go
// with the state of the others, and are no part of what an edit leads to.
func protects(s Step) bool {
	return slices.ContainsFunc(slices.Concat(s.Apply, s.Delete), func(object client.Object) bool {
		_, budget := object.(*policyv1.PodDisruptionBudget)
		return budget
	})
}

// finish says where the plan ends.
func (f *Foresight) finish(cluster *v1alpha1.StorageCluster, w *imagined, want *Desired, steps []Step) {
	f.CapacityAfter = w.capacity()
	f.changes, f.Assumes = w.changes, w.assumes
	f.Blocker = blockerOf(w.Observed, want, steps)
	if len(steps) > 0 {
		f.Stop = steps[0].What
	}
	for i := range f.Steps {
		s := &f.Steps[i]
		s.NeedsApproval = cluster.Spec.Approval == v1alpha1.ApprovalManual && s.Risk.Held() && !v1alpha1.Approved(cluster, s.Name)
	}
}

// imagined is a cluster in which steps happen as they are expected to.
type imagined struct {
	*Observed
	count map[string]int    // how often a step came
	gates map[string]string // what it waited for first
	// broken are the mons and OSDs (by UUID) that do not run now, which no step may count on.
	broken map[string]bool
	// changes of the placement of data, one for each look.
	changes []movement
	assumes []string
}

func imagine(o *Observed) *imagined {
	copied := *o
	w := &imagined{Observed: &copied, count: map[string]int{}, gates: map[string]string{}, broken: map[string]bool{}}
	w.lookup, w.begun = lookup{}, map[string]bool{}
	w.Cluster = o.Cluster.DeepCopy()
	w.Cluster.Spec.Approval = v1alpha1.ApprovalAutomatic
	w.Services, w.Secrets = maps.Clone(o.Services), maps.Clone(o.Secrets)
	w.ConfigMaps, w.Deployments = maps.Clone(o.ConfigMaps), maps.Clone(o.Deployments)
	w.Claims, w.Volumes = maps.Clone(o.Claims), maps.Clone(o.Volumes)
	w.OSDKeys, w.Mons, w.Pods = maps.Clone(o.OSDKeys), slices.Clone(o.Mons), slices.Clone(o.Pods)
	if o.Ceph == nil {
		return w
	}
	status := *o.Ceph.Status
	status.Mons, status.Quorum = slices.Clone(status.Mons), slices.Clone(status.Quorum)
	state := *o.Ceph
	state.Status, state.OSDs, state.Needed = &status, slices.Clone(o.Ceph.OSDs), maps.Clone(o.Ceph.Needed)
	state.ClientIDs, state.ClientIDsError = nil, nil
	w.Ceph = &state
	for _, name := range without(status.Mons, status.Quorum) {
		w.broken[name] = true
	}
	for i := range state.OSDs {
		if !state.OSDs[i].Up && w.osdDeployment(state.OSDs[i].UUID) != nil {
			w.broken[state.OSDs[i].UUID] = true
		}
	}
	return w
}

// look notes the steps that come now, and returns those that may be done.
func (w *imagined) look(f *Foresight, steps []Step) (open []Step) {
	for _, s := range steps {
		if w.gates[s.Name] == "" {
			w.gates[s.Name] = s.Gate
		}
		if s.Gate != "" || w.count[s.Name] == often {
			continue
		}
		if w.count[s.Name] == 0 {
			noted := s.PlanStep
			noted.Gate = w.gates[s.Name]
			f.Steps = append(f.Steps, noted)
		}
		if s.Wait {
			w.count[s.Name] = 1
			continue
		}
		w.count[s.Name]++
		open = append(open, s)
	}
	return open
}

// happen is what a step leads to. One whose verb is not known here leads to nothing.
func (w *imagined) happen(s Step) (err error) {
	defer func() { w.lookup = lookup{} }()
	switch {
	case s.Recovery != "":
		err = w.recoverMons(s.Recovery)
	case s.MakeKeys:
		w.Keys, err = newKeys(w.newKey)
	case s.NewOSD != nil && s.Renew != nil:
		w.renew(*s.NewOSD, *s.Renew)
		w.changing(s).set(SetOut{ID: *s.Renew})
	case s.NewOSD != nil:
		w.newOSD(*s.NewOSD)
		w.lookup = lookup{}
		w.changing(s).added(w.osd(s.NewOSD.UUID), w.locationOf(*s.NewOSD), s.NewOSD.Weight)
	case s.MakeClaim != nil:
		w.makeClaim(s.MakeClaim)
	case s.DropClaim != nil:
		delete(w.Claims, s.DropClaim.Name)
	case s.SetOut != nil:
		w.setOut(*s.SetOut)
		w.changing(s).set(*s.SetOut)
	case s.SetWeight != nil:
		w.change(s.SetWeight.ID, func(known *ceph.OSD) { known.Weight = s.SetWeight.To })
		w.changing(s).weigh(*s.SetWeight)
	case s.RemoveMon != "":
		w.Ceph.Status.Mons = without(w.Ceph.Status.Mons, []string{s.RemoveMon})
		w.Ceph.Status.Quorum = without(w.Ceph.Status.Quorum, []string{s.RemoveMon})
	case s.EndOSD != nil:
		w.change(s.EndOSD.ID, func(known *ceph.OSD) { known.Up, known.In, known.Destroyed = false, false, true })
	case s.Require != "":
		releases := *w.Ceph.Releases
		releases.OSDs = s.Require
		w.Ceph.Releases = &releases
	case s.NextKey != nil, s.CommitKey != nil:
		w.keyHappens(s)
	case s.NewUser != nil, s.OldUser != nil:
		w.userHappens(s)
	case s.SetOption != nil:
		w.set(*s.SetOption)
	case s.Purge != nil:
		w.Ceph.OSDs = slices.DeleteFunc(w.Ceph.OSDs, func(known ceph.OSD) bool { return known.ID == *s.Purge })
	}
	for _, object := range slices.Concat(s.Delete, s.Stop) {
		w.drop(object)
	}
	w.runJobs(s.Create)
	for _, object := range s.Apply {
		if err := w.put(object); err != nil {
			return err
		}
	}
	w.Mons = mon.Observed(monServices(w.Services), w.nodeAddress)
	w.Cluster.Status.LastMon = mon.Last(w.Mons, w.Cluster.Status.LastMon)
	return err
}

// put has an object be as it was applied.
func (w *imagined) put(wanted client.Object) error {
	object := wanted.DeepCopyObject().(client.Object)
	hash, err := kube.Hash(object)
	if err != nil {
		return err
	}
	annotations := maps.Clone(object.GetAnnotations())
	if annotations == nil {
		annotations = map[string]string{}
	}
	annotations[kube.AnnotationApplied] = hash
	object.SetAnnotations(annotations)
	switch object := object.(type) {
	case *corev1.Service:
		if live := w.Services[object.Name]; live != nil {
			object.Spec.ClusterIP = live.Spec.ClusterIP
		} else if object.Spec.ClusterIP == "" {
			object.Spec.ClusterIP = fmt.Sprintf("192.0.2.%d", len(w.Services)+1) // an example's
		}
		w.Services[object.Name] = object
	case *corev1.ConfigMap:
		w.ConfigMaps[object.Name] = object
	case *corev1.PersistentVolumeClaim:
		w.growClaim(object)
	case *corev1.Pod:
		w.answer(object)
	case *corev1.Secret:
		w.Secrets[object.Name] = object
		if uuid := object.Annotations[kube.AnnotationUUID]; uuid != "" {
			w.OSDKeys[uuid] = ceph.Key(object.Data["key"])
		}
	case *appsv1.Deployment:
		object.Generation = 1
		object.Status = appsv1.DeploymentStatus{ObservedGeneration: 1, UpdatedReplicas: 1, AvailableReplicas: 1}
		w.Deployments[object.Name] = object
		if object.Labels[kube.LabelComponent] == mon.Component {
			w.begun[object.Labels[kube.LabelInstance]] = true
		}
		delete(w.broken, object.Labels[kube.LabelInstance])
		delete(w.broken, object.Annotations[kube.AnnotationUUID])
	}
	return nil
}

func (w *imagined) drop(object client.Object) {
	switch object.(type) {
	case *corev1.Service:
		delete(w.Services, object.GetName())
	case *corev1.Secret:
		delete(w.Secrets, object.GetName())
	case *batchv1.Job:
		w.Jobs = maps.Clone(w.Jobs)
		delete(w.Jobs, object.GetName())
	case *corev1.Pod:
		if object.GetLabels()[kube.LabelComponent] == mon.Component {
			w.begun[object.GetLabels()[kube.LabelInstance]] = true
		}
		name := object.GetName() // of one of these, which move
		w.Pods = slices.DeleteFunc(w.Pods, func(pod corev1.Pod) bool { return pod.Name == name })
	case *appsv1.Deployment:
		delete(w.Deployments, object.GetName())
		if known := w.osd(object.GetAnnotations()[kube.AnnotationUUID]); known != nil {
			known.Up = false
		}
	}
}

func (w *imagined) newOSD(target osd.Target) {
	if w.osd(target.UUID) == nil {
		id := 0
		for slices.ContainsFunc(w.Ceph.OSDs, func(known ceph.OSD) bool { return known.ID == id }) {
			id++
		}
		device := w.device(target)
		w.Ceph.OSDs = append(w.Ceph.OSDs, ceph.OSD{ID: id, UUID: target.UUID, Class: classOf(target, device), Host: hostOf(w.locationOf(target)), BytesTotal: int64(w.sizeOf(target))})
	}
	if w.OSDKeys[target.UUID] == "" {
		w.OSDKeys[target.UUID] = "a key"
	}
	w.encrypt(target)
}

// device of a target, as the inventory shows it.
func (w *imagined) device(target osd.Target) v1alpha1.Device {
	if claim := w.claim(target.Claim); claim != nil {
		return v1alpha1.Device{Size: claim.Spec.Resources.Requests[corev1.ResourceStorage]}
	}
	if device := osd.Find(w.Inventory[target.Node], target.Device); device != nil {
		return *device
	}
	return v1alpha1.Device{}
}

// classOf is the device class that a new OSD gets; Ceph itself tells disks that turn.
func classOf(target osd.Target, device v1alpha1.Device) string {
	switch {
	case target.Class != "":
		return target.Class
	case device.Rotational:
		return "hdd"
	}
	return "ssd"
}

// renew gives the ID and place of a destroyed OSD to a target.
func (w *imagined) renew(target osd.Target, id int) {
	w.change(id, func(known *ceph.OSD) { known.UUID, known.In, known.Destroyed = target.UUID, true, false })
	w.OSDKeys[target.UUID] = "a key"
	w.encrypt(target)
}

// change what Ceph has of an OSD.
func (w *imagined) change(id int, to func(*ceph.OSD)) {
	for i := range w.Ceph.OSDs {
		if w.Ceph.OSDs[i].ID == id {
			to(&w.Ceph.OSDs[i])
		}
	}
}

func (w *imagined) setOut(set SetOut) {
	w.change(set.ID, func(known *ceph.OSD) { known.In = !set.Out })
	if w.Ceph.Needed == nil {
		w.Ceph.Needed = map[int]string{}
	}
	w.Ceph.Needed[set.ID] = "all its data is elsewhere in full"
}

// settle is what comes by itself: what was started runs, and data that moves arrives.
func (w *imagined) settle() {
	w.settleMons()
	if w.Ceph == nil {
		return
	}
	mgrs := 0
	for _, d := range w.Deployments {
		if d.Labels[kube.LabelComponent] == "mgr" {
			mgrs++
		}
	}
	if s := w.Ceph.Status; s.ActiveMgr == "" && mgrs > 0 {
		s.ActiveMgr = "a"
	}
	w.Ceph.Status.StandbyMgrs = max(0, mgrs-1)
	w.settleOSDs()
	w.settleUpgrade()
}

func (w *imagined) settleMons() {
	for _, d := range w.Deployments {
		name := d.Labels[kube.LabelInstance]
		if d.Labels[kube.LabelComponent] != mon.Component || w.broken[name] {
			continue
		}
		if w.Ceph == nil && w.founded() {
			return // a cluster that does not answer now is no cluster to count on
		}
		if w.Ceph == nil {
			w.Ceph, w.CephError = &CephState{Status: &ceph.Status{FSID: w.Keys.FSID, Pools: 1}, Needed: map[int]string{}}, nil
		}
		s := w.Ceph.Status
		if !slices.Contains(s.Mons, name) {
			s.Mons = append(s.Mons, name)
		}
		if !slices.Contains(s.Quorum, name) {
			s.Quorum = append(s.Quorum, name)
		}
	}
}

// founded reports whether there was a quorum ever.
func (w *imagined) founded() bool { return w.Cluster.Status.FSID != "" }

func (w *imagined) settleOSDs() {
	s := w.Ceph.Status
	s.OSDs, s.OSDsUp, s.OSDsIn = len(w.Ceph.OSDs), 0, 0
	for i := range w.Ceph.OSDs {
		known := &w.Ceph.OSDs[i]
		if d := w.osdDeployment(known.UUID); d != nil && !w.broken[known.UUID] {
			if known.Weight == 0 { // its first start
				known.In, known.Weight = true, firstWeight(d, known)
			}
			known.Up = true
		}
		if known.Up {
			s.OSDsUp++
		}
		if known.In {
			s.OSDsIn++
		}
	}
	if s.OSDsUp < s.OSDsIn {
		return
	}
	for id := range w.Ceph.Needed {
		w.Ceph.Needed[id] = ""
	}
	all := 0
	for _, n := range s.PGs {
		all += n
	}
	s.PGs, w.Ceph.Unreported = map[string]int{"active+clean": all}, ""
}

// firstWeight of an OSD is what its Deployment says, or that of its size.
func firstWeight(d *appsv1.Deployment, known *ceph.OSD) float64 {
	if weight, err := strconv.ParseFloat(osd.FirstWeight(d), 64); err == nil {
		return weight
	}
	return max(float64(known.BytesTotal)/tib, 0.00001)
}

// capacity is that of the OSDs on which data is placed.
func (w *imagined) capacity() (total int64) {
	if w.Ceph == nil {
		return 0
	}
	for i := range w.Ceph.OSDs {
		if known := &w.Ceph.OSDs[i]; known.In {
			total += cmp.Or(known.BytesTotal, int64(known.Weight*(1<<40)))
		}
	}
	return total
}

func (w *imagined) used() int64 {
	if w.Ceph == nil {
		return 0
	}
	return w.Ceph.Status.BytesUsed
}
