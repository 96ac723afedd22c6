package cluster

import (
	"cmp"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"maps"
	"slices"
	"strings"
	"time"

	batchv1 "k8s.io/api/batch/v1"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/meta"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/utils/ptr"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/mon"
)

// A quorum that is lost for ever is rebuilt from one mon, when a person asks for it in
// spec.mon.recovery. Two quorums must never be, so the order is:
//
//	the StorageCluster says that it is rebuilt
//	the mons' Deployments are deleted, and their pods stop
//	a Job keeps the store of the mon that is left, and sees that it can be used
//	the other mons' Services are deleted: nothing starts those mons ever again
//	a Job takes the others out of the store's monmap
//	the StorageCluster says that it is done
//
// Then that mon is started, and others join it under new names. Until the Services go
// it can be taken back: the mons are started as they were. It rests on what the
// server says, never on a cache.

// recovered is the last rebuilding of the quorum, or nil.
func recovered(cluster *v1alpha1.StorageCluster) *v1alpha1.MonRecoveryStatus {
	text := cluster.Annotations[kube.AnnotationMonRecovery]
	record := &v1alpha1.MonRecoveryStatus{}
	if text == "" || json.Unmarshal([]byte(text), record) != nil {
		return nil
	}
	return record
}

// isFor reports whether a rebuilding is for the loss of a moment.
func isFor(record *v1alpha1.MonRecoveryStatus, lost metav1.Time) bool {
	return record != nil && record.LostSince.Equal(&lost)
}

// recovering is the rebuilding that is under way, or nil.
func recovering(cluster *v1alpha1.StorageCluster) *v1alpha1.MonRecoveryStatus {
	if record := recovered(cluster); record != nil && record.Finished == nil {
		return record
	}
	return nil
}

// mayRecover reports whether a cluster's quorum is or may be rebuilt now.
func mayRecover(cluster *v1alpha1.StorageCluster) bool {
	asked, done := cluster.Spec.Mon.Recovery, recovered(cluster)
	if done != nil && done.Finished == nil {
		return true
	}
	return asked != nil && !meta.IsStatusConditionTrue(cluster.Status.Conditions, v1alpha1.ConditionQuorum) && !isFor(done, asked.LostSince)
}

// observeRecovery reads the Jobs of a rebuilding.
func (r *Reconciler) observeRecovery(ctx context.Context, o *Observed) error {
	if recovering(o.Cluster) == nil {
		return nil
	}
	var jobs batchv1.JobList
	if err := r.Live.List(ctx, &jobs, client.InNamespace(o.Cluster.Namespace), client.MatchingLabels{kube.LabelCluster: o.Cluster.Name, kube.LabelComponent: recoveryComponent}); err != nil {
		return fmt.Errorf("list Jobs: %w", err)
	}
	o.Jobs = map[string]*batchv1.Job{}
	index(o.Jobs, jobs.Items)
	return r.observeDataPaths(ctx, o)
}

// lostSince is since when there is no quorum; zero while there is one. A quorum that was
// rebuilt and has not formed is another loss.
func (o *Observed) lostSince() metav1.Time {
	c := meta.FindStatusCondition(o.Cluster.Status.Conditions, v1alpha1.ConditionQuorum)
	if o.Ceph != nil || c == nil || c.Status != metav1.ConditionFalse {
		return metav1.Time{}
	}
	since := c.LastTransitionTime
	if record := recovered(o.Cluster); record != nil {
		rebuilt := record.LostSince
		if record.Finished != nil {
			rebuilt = *record.Finished
		}
		if since.Before(&rebuilt) {
			return rebuilt
		}
	}
	return since
}

// why a mon does not run, by name: those that will not by waiting alone.
func (o *Observed) lostMons() map[string]string {
	lost := map[string]string{}
	unrecorded := o.unrecorded()
	for _, m := range unrecorded {
		if !mon.OnHost(o.Cluster) {
			lost[m.Name] = "its Service is gone, and with it its address"
		}
	}
	for _, m := range append(unrecorded, o.Mons...) {
		node := o.node(m.Node)
		switch {
		case lost[m.Name] != "":
		case node == nil:
			lost[m.Name] = "node " + m.Node + " is not in Kubernetes any more"
		case !kube.NodeAnswers(node):
			lost[m.Name] = "node " + m.Node + " is not ready"
		}
	}
	for i := range o.Pods {
		pod := &o.Pods[i]
		name := pod.Labels[kube.LabelInstance]
		if pod.Labels[kube.LabelComponent] != mon.Component || lost[name] != "" || pod.DeletionTimestamp != nil {
			continue
		}
		if why := stopped(pod); why != "" {
			lost[name] = fmt.Sprintf("pod %s on node %s %s", pod.Name, pod.Spec.NodeName, why)
		}
	}
	return lost
}

// stopped says why a pod does not run, when it will not by waiting alone.
func stopped(pod *corev1.Pod) string {
	if why := unschedulable(pod); why != "" {
		return "cannot be scheduled: " + why
	}
	for i := range pod.Status.ContainerStatuses {
		c := &pod.Status.ContainerStatuses[i]
		if why := failing(c); why != "" {
			return why
		}
		if end := c.State.Terminated; end != nil && end.ExitCode != 0 {
			return fmt.Sprintf("ended with exit code %d: %s", end.ExitCode, end.Message)
		}
	}
	return ""
}

// mons is how many there are, as far as that is known without Ceph, and how many of them
// run or start. Of data that is taken up again Services may be missing, and nothing else
// tells of their mons: then there are as many as the spec says.
func (o *Observed) mons(lost map[string]string) (all, run int) {
	known := len(o.Mons) + len(o.unrecorded())
	all = known
	if o.takesUp() {
		all = max(all, int(o.Cluster.Spec.Mon.Count))
	}
	return all, known - len(lost)
}

// missingForQuorum is how many of the lost mons have to come back.
func (o *Observed) missingForQuorum(lost map[string]string) int {
	all, run := o.mons(lost)
	return all/2 + 1 - run
}

// quorumLost names the mons without which there is no quorum, and the ways out.
func quorumLost(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	since, lost := o.lostSince(), o.lostMons()
	missing := o.missingForQuorum(lost)
	if since.IsZero() || o.founded() == "" || len(o.Mons) == 0 || missing <= 0 {
		return nil
	}
	whys := make([]string, 0, len(lost))
	for _, name := range slices.Sorted(maps.Keys(lost)) {
		whys = append(whys, "mon "+name+" ("+lost[name]+")")
	}
	whys = append(whys, o.servicesMissing()...)
	from, way, behind := v1alpha1.FromOSDs, "", ""
	for _, m := range o.Mons {
		switch {
		case lost[m.Name] != "":
		case wasOut(m):
			behind += fmt.Sprintf(" (mon %s was out of quorum already, since %s: OSDs know more)", m.Name, clock(m.MissingSince))
		case from == v1alpha1.FromOSDs:
			from = m.Name
		}
	}
	if from == v1alpha1.FromOSDs {
		way = ", or from the OSDs when no mon's store is"
	}
	again := ""
	if record := recovered(o.Cluster); record != nil && since.Equal(record.Finished) {
		again = fmt.Sprintf(" (the quorum was rebuilt from %s at %s, and %s has not formed it since; its store as it was is %s on node %s)", sourceOf(record.From), clock(record.Finished.Time), beginner(record), record.Backup, record.Node)
	}
	return blocker(v1alpha1.ReasonQuorumLost, "the mons have no quorum since %s%s, and nothing is served. Missing are %s. Bring back any %d of them, with their stores, and the cluster goes on by itself with nothing lost. "+
		"Only when that can never be, rebuild the quorum from one mon that is left%s, which can lose the newest changes: set spec.mon.recovery to {from: %s, lostSince: %q, confirmation: %s}, and name the nodes that are gone for ever in its skipNodes",
		clock(since.Time), again, strings.Join(whys, ", "), missing, way+behind, from, clock(since.Time), o.recoveryConfirmation(from))
}

// wasOut reports whether a mon was out of quorum already when that was lost.
func wasOut(m mon.Mon) bool { return !m.MissingSince.IsZero() }

func (o *Observed) recoveryConfirmation(from string) string {
	if from == v1alpha1.FromOSDs {
		return "yes-rebuild-the-quorum-of-" + o.Cluster.Name + "-from-osds"
	}
	text := "yes-rebuild-the-quorum-of-" + o.Cluster.Name + "-from-mon-" + from
	if m := o.mon(from); m != nil && wasOut(*m) {
		text += "-though-it-was-out"
	}
	return text
}

// sourceOf is what a quorum is rebuilt from, in words.
func sourceOf(from string) string {
	if from == v1alpha1.FromOSDs {
		return "the OSDs"
	}
	return "mon " + from
}

// refusal says why spec.mon.recovery is not followed.
func (o *Observed) refusal() string {
	asked, since := o.Cluster.Spec.Mon.Recovery, o.lostSince()
	from := o.mon(asked.From)
	lost := o.lostMons()
	switch {
	case since.IsZero():
		return "it is known since when the mons have no quorum"
	case !asked.LostSince.Equal(&since):
		return fmt.Sprintf("spec.mon.recovery.lostSince is %s: since then the mons have no quorum, %s was another loss", clock(since.Time), clock(asked.LostSince.Time))
	case asked.Confirmation != o.recoveryConfirmation(asked.From) && from != nil && wasOut(*from):
		return fmt.Sprintf("spec.mon.recovery.from is a mon that was in quorum when that was lost: mon %s was out since %s, and OSDs know of changes that it does not. It would make others in their place, "+
			"and what was written since can be lost. Take another mon, or the OSDs; only when neither can be, set spec.mon.recovery.confirmation to %s", from.Name, clock(from.MissingSince), o.recoveryConfirmation(asked.From))
	case asked.Confirmation != o.recoveryConfirmation(asked.From):
		return "spec.mon.recovery.confirmation is " + o.recoveryConfirmation(asked.From)
	case from == nil && asked.From != v1alpha1.FromOSDs:
		return fmt.Sprintf("spec.mon.recovery.from names a mon that there is: %s", strings.Join(names(o.Mons), ", "))
	case o.missingForQuorum(lost) <= 0:
		all, run := o.mons(lost)
		return fmt.Sprintf("most mons are lost: %d of %d run or start, and can form a quorum with nothing lost. See why they do not: 'kubectl -n %s logs -l app.kubernetes.io/component=mon'", run, all, o.Cluster.Namespace)
	case asked.From == v1alpha1.FromOSDs:
		return o.osdsRefusal()
	}
	return ""
}

// mon of a name, or nil.
func (o *Observed) mon(name string) *mon.Mon {
	if at := slices.IndexFunc(o.Mons, func(m mon.Mon) bool { return m.Name == name }); at >= 0 {
		return &o.Mons[at]
	}
	return nil
}

// recovery begins what spec.mon.recovery asks for, while there is no quorum.
func (p *planner) recovery() error {
	asked, done := p.o.Cluster.Spec.Mon.Recovery, recovered(p.o.Cluster)
	if asked == nil || p.o.Ceph != nil || p.o.Keys == nil || p.o.founded() == "" || isFor(done, asked.LostSince) {
		return nil
	}
	if since := p.o.lostSince(); !asked.LostSince.Equal(&since) && p.o.missingForQuorum(p.o.lostMons()) <= 0 {
		return nil // it is for another loss, and there is none now
	}
	s := step("recovery", fmt.Sprintf("rebuild the quorum from mon %s alone, and give up %s", asked.From, listOf(without(names(p.o.Mons), []string{asked.From}))),
		"spec.mon.recovery asks for it: what this mon does not know is lost", p.o.refusal())
	if asked.From == v1alpha1.FromOSDs {
		s = p.o.beginFromOSDs()
	}
	s.Recovery = beginRecovery
	p.add(s)
	return nil
}

func listOf(mons []string) string {
	if len(mons) == 0 {
		return "no other"
	}
	return strings.Join(mons, ", ")
}

// recoveryHeld reports why spec.mon.recovery is not followed, whatever else is open.
func recoveryHeld(o *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	switch {
	case len(steps) == 0 || steps[0].Recovery != beginRecovery || steps[0].Gate == "":
		return nil
	case steps[0].NeedsApproval:
		return unapproved(o, nil, steps[:1])
	}
	return blocker(v1alpha1.ReasonRecoveryRefused, "the quorum is not rebuilt until %s", steps[0].Gate)
}

// The verbs of a rebuilding.
const (
	beginRecovery    = "begin"
	takeBackRecovery = "take back"
	forgetMons       = "forget mons"
	finishRecovery   = "finish"
	chooseStore      = "choose"
	reconnectVolumes = "reconnect"
)

// recoveryPlan is what is left of a rebuilding that is under way.
func recoveryPlan(o *Observed, image string) []Step {
	record := recovering(o.Cluster)
	undecided := fromOSDs(record) && record.Mon == ""
	if o.Ceph == nil && (len(o.Mons) > 1 || undecided) && o.takenBack(record) {
		s := step("recovery-back", "start the mons as they were", "spec.mon.recovery does not ask for their recovery any more", "")
		s.Recovery, s.Risk = takeBackRecovery, v1alpha1.RiskNone
		steps := o.endJobs()
		if len(steps) > 0 {
			s.Gate = "the Jobs of the rebuilding are gone"
		}
		return append(steps, s)
	}
	if o.beginsAnew(record) {
		s := o.beginFromOSDs()
		s.What, s.Why, s.Recovery = "leave what node "+record.Node+" has, and "+s.What, "spec.mon.recovery asks for it: the node with the store that was worked on is gone", beginRecovery
		if s.Gate != "" {
			s.Reason = v1alpha1.ReasonRecoveryRefused
		}
		return []Step{s}
	}
	if fromOSDs(record) {
		return o.osdsPlan(record, image)
	}
	steps := o.stopMons(record)
	gate := ""
	if len(steps) > 0 {
		gate = "all mons have stopped"
	}
	keep, kept := o.surgery(record, image, "keep", "keep the store of mon "+record.From+" as it is, and see that it can be used", gate)
	if !kept {
		keep.Gate = o.orAnew(record, keep)
		steps, gate = append(steps, keep), cmp.Or(gate, "its store is known to be good")
	}
	if others := o.monsBut(record.From); len(others) > 0 {
		s := step("recovery-forget", "give up mon "+strings.Join(names(others), ", ")+": delete their Services, from here on there is no way back", "no mon with another map may ever start again", gate)
		s.Recovery = forgetMons
		steps, gate = append(steps, s), cmp.Or(gate, "the other mons are given up")
	}
	rebuild, rebuilt := o.surgery(record, image, "rebuild", "take all mons but "+record.From+" out of its monmap", gate)
	if !rebuilt {
		rebuild.Gate = o.orAnew(record, rebuild)
		steps, gate = append(steps, rebuild), cmp.Or(gate, "its monmap is changed")
	}
	s := step("recovery-finish", "write down that the quorum is rebuilt", "then mon "+record.From+" starts, and others join it", gate)
	s.Recovery, s.Risk = finishRecovery, v1alpha1.RiskNone
	return append(steps, s)
}

// takenBack reports whether the rebuilding is no more what the spec asks for, and can
// still be taken back: none of the mons is given up yet.
func (o *Observed) takenBack(record *v1alpha1.MonRecoveryStatus) bool {
	for _, name := range record.GaveUp {
		if o.mon(name) == nil {
			return false
		}
	}
	asked := o.Cluster.Spec.Mon.Recovery
	return asked == nil || asked.From != record.From || !isFor(record, asked.LostSince)
}

// beginsAnew reports whether the spec asks for a rebuilding from the OSDs in place of one
// that cannot go on: the node with its store is gone for ever.
func (o *Observed) beginsAnew(record *v1alpha1.MonRecoveryStatus) bool {
	asked, node := o.Cluster.Spec.Mon.Recovery, o.node(record.Node)
	return o.Ceph == nil && asked != nil && asked.From == v1alpha1.FromOSDs && isFor(record, asked.LostSince) && record.Node != "" &&
		slices.Contains(asked.SkipNodes, v1alpha1.NodeName(record.Node)) && (node == nil || !kube.NodeAnswers(node))
}

// orAnew is the gate of a step for which the node with the store is needed, and the way out.
func (o *Observed) orAnew(record *v1alpha1.MonRecoveryStatus, s Step) string {
	if s.Reason != v1alpha1.ReasonNodeGone || len(o.Mons) > 1 { // it can be taken back, and be another mon's
		return s.Gate
	}
	return fmt.Sprintf("%s. Bring it back; or, when it is gone for ever, rebuild the quorum from the OSDs: set spec.mon.recovery to {from: %s, lostSince: %q, confirmation: %s}, and name the node in its skipNodes too",
		s.Gate, v1alpha1.FromOSDs, clock(record.LostSince.Time), o.recoveryConfirmation(v1alpha1.FromOSDs))
}

func (o *Observed) monsBut(name string) []mon.Mon { return withoutMon(o.Mons, name) }

// stopMons are the steps until no mon runs.
func (o *Observed) stopMons(record *v1alpha1.MonRecoveryStatus) []Step {
	only := *o
	only.lookup = lookup{}
	only.Deployments = maps.Clone(o.Deployments)
	for name, d := range o.Deployments {
		if d.Labels[kube.LabelComponent] != mon.Component {
			delete(only.Deployments, name)
		}
	}
	only.Pods = slices.DeleteFunc(slices.Clone(o.Pods), func(pod corev1.Pod) bool { return pod.Labels[kube.LabelComponent] != mon.Component })
	s := stopping{Observed: &only, skip: o.skippedFor(record), all: "stop all mons", why: "two quorums must never be", skipField: "spec.mon.recovery.skipNodes: its mons are not waited for then, and must never run again"}
	steps := append(s.stop(""), o.unseenMons(record, &s)...)
	for i := range steps {
		steps[i].Risk = v1alpha1.RiskNone // there is no quorum that they could leave
	}
	return steps
}

// unseenMons are steps for the mons that are given up, have no pod, and whose nodes do not
// answer: they may run there all the same. Kubernetes forgets the pods of a node that is
// deleted, which may only be cut off.
func (o *Observed) unseenMons(record *v1alpha1.MonRecoveryStatus, s *stopping) (steps []Step) {
	for _, m := range o.monsBut(record.From) {
		seen := slices.ContainsFunc(o.Pods, func(pod corev1.Pod) bool {
			return pod.Labels[kube.LabelComponent] == mon.Component && pod.Labels[kube.LabelInstance] == m.Name
		})
		if gate := s.absent(m.Node); gate != "" && !seen && !s.skipped(m.Node) {
			unseen := step("mon-"+m.Name+"-stopped", fmt.Sprintf("wait for mon-%s on node %s to stop", m.Name, m.Node), "two quorums must never be: it may run there still", gate)
			unseen.Wait, unseen.Reason = true, v1alpha1.ReasonNodeGone
			steps = append(steps, unseen)
		}
	}
	return steps
}

// forgetMons deletes the Services of the mons that are given up, once the last name
// that was given is kept where no restore loses it.
func (r *Reconciler) forgetMons(ctx context.Context, o *Observed) error {
	if err := r.keepLastMon(ctx, o); err != nil {
		return err
	}
	record := recovering(o.Cluster)
	keep := record.From
	if fromOSDs(record) {
		keep = record.Mon
	}
	for _, m := range o.monsBut(keep) {
		if err := r.delete(ctx, o.Services[mon.ObjectName(o.Cluster, m.Name)]); err != nil {
			return err
		}
	}
	if fromOSDs(record) { // as the last: it is nothing that can be taken back
		return r.placeFounder(ctx, o, record)
	}
	return nil
}

// recover does one step of a rebuilding that is not a Job's.
func (r *Reconciler) recover(ctx context.Context, o *Observed, verb string) error {
	record := recovering(o.Cluster)
	switch verb {
	case forgetMons:
		return r.forgetMons(ctx, o)
	case beginRecovery:
		record = o.newRecovery()
	case chooseStore:
		record = o.chosen()
	case reconnectVolumes:
		return r.reconnect(ctx, o)
	case finishRecovery:
		if keys := o.Secrets[o.recoveryKeysName(record)]; keys != nil {
			if err := r.delete(ctx, keys); err != nil {
				return err
			}
		}
		if err := errors.Join(r.giveUpOSDs(ctx, o, record), r.endLeftJobs(ctx, o)); err != nil {
			return err
		}
		record.Finished = o.finished(record)
	case takeBackRecovery:
		record = nil
	}
	return r.recordRecovery(ctx, o, record)
}

// finished is when a rebuilding is: losses are told apart by the second, and clocks are set.
func (o *Observed) finished(record *v1alpha1.MonRecoveryStatus) *metav1.Time {
	at, first := o.Now.Truncate(time.Second), record.LostSince.Add(time.Second)
	if at.Before(first) {
		at = first
	}
	return ptr.To(metav1.NewTime(at))
}

// newRecovery is the record that a rebuilding begins with.
func (o *Observed) newRecovery() *v1alpha1.MonRecoveryStatus {
	asked := o.Cluster.Spec.Mon.Recovery
	image := cmp.Or(o.Cluster.Status.Image, o.Cluster.Spec.Ceph.Image)
	if live := o.Deployments[mon.ObjectName(o.Cluster, asked.From)]; live != nil {
		image = imageOf(live)
	}
	if asked.From == v1alpha1.FromOSDs {
		record := o.newFromOSDs(image)
		if before := recovering(o.Cluster); before != nil {
			record.GaveUp, record.Image = before.GaveUp, before.Image
		}
		return record
	}
	return &v1alpha1.MonRecoveryStatus{From: asked.From, Node: o.mon(asked.From).Node, LostSince: asked.LostSince, GaveUp: names(o.monsBut(asked.From)), Image: image,
		Began: metav1.NewTime(o.Now), Backup: fmt.Sprintf("backup-mon-%s-%s", asked.From, o.Now.UTC().Format("20060102T150405Z"))}
}

// recordRecovery writes down how far a rebuilding is. It fails when the StorageCluster
// is not the one that was looked at any more.
func (r *Reconciler) recordRecovery(ctx context.Context, o *Observed, record *v1alpha1.MonRecoveryStatus) error {
	before := o.Cluster.DeepCopy()
	if err := setRecovery(o.Cluster, record); err != nil {
		return err
	}
	if err := r.Client.Patch(ctx, o.Cluster, client.MergeFromWithOptions(before, client.MergeFromWithOptimisticLock{})); err != nil {
		return fmt.Errorf("write down how far the recovery of the mons is: %w", err)
	}
	return nil
}

func setRecovery(cluster *v1alpha1.StorageCluster, record *v1alpha1.MonRecoveryStatus) error {
	if record == nil {
		delete(cluster.Annotations, kube.AnnotationMonRecovery)
		return nil
	}
	text, err := json.Marshal(record)
	if err != nil {
		return fmt.Errorf("write down the recovery of the mons: %w", err)
	}
	metav1.SetMetaDataAnnotation(&cluster.ObjectMeta, kube.AnnotationMonRecovery, string(text))
	return nil
}
