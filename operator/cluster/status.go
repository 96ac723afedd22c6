package cluster

import (
	"cmp"
	"errors"
	"fmt"
	"slices"
	"strings"

	"k8s.io/apimachinery/pkg/api/meta"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/disruption"
	"github.com/cairn-storage/cairn/operator/mon"
)

// maxPlan bounds the plan in the status; the last entry then counts the rest.
const maxPlan = 20

// status derives the whole status from what was observed and what is left to do.
func status(o *Observed, d *Desired, steps []Step) v1alpha1.StorageClusterStatus {
	o.lookup = lookup{}
	s := *o.Cluster.Status.DeepCopy()
	s.ObservedGeneration = o.Cluster.Generation
	s.Plan = planOf(steps)
	s.MonRecovery = recovered(o.Cluster)
	s.LastMon = mon.Last(append(o.unrecorded(), o.Mons...), o.lastMon())
	s.Mons = daemons(int(o.Cluster.Spec.Mon.Count), 0)
	s.Mgrs = daemons(int(o.Cluster.Spec.Mgr.Count), 0)
	s.OSDs = daemons(len(d.Targets)+len(d.NewClaims), 0)
	if o.Ceph != nil {
		fill(&s, o, d)
	}
	setEncrypted(&s, o, d)
	s.Drained = disruption.Drained(o.drain())
	upgradeStatus(&s, o)
	s.CephX = v1alpha1.CephXStatus{Daemons: daemonKeys(o, d), CSI: csiStatus(o)}
	block(&s, o, blockerOf(o, d, steps))
	for _, c := range []metav1.Condition{quorumCondition(o), healthCondition(o), drainableCondition(o, d), readyCondition(o, &s, steps)} {
		c.ObservedGeneration, c.LastTransitionTime = o.Cluster.Generation, metav1.NewTime(o.Now.Truncate(1e9))
		c.Message = bounded(c.Message)
		meta.SetStatusCondition(&s.Conditions, c)
	}
	return s
}

// fill takes over what Ceph says.
func fill(s *v1alpha1.StorageClusterStatus, o *Observed, d *Desired) {
	c := o.Ceph.Status
	s.FSID = c.FSID
	s.Health = v1alpha1.HealthStatus{Status: c.Health}
	for _, check := range c.Checks {
		s.Health.Checks = append(s.Health.Checks, v1alpha1.HealthCheck(check))
	}
	s.Capacity = v1alpha1.CapacityStatus{Total: bytes(c.BytesTotal), Used: bytes(c.BytesUsed), Available: bytes(c.BytesAvailable)}
	s.Mons = daemons(int(o.Cluster.Spec.Mon.Count), len(c.Quorum))
	mgrs := c.StandbyMgrs
	if c.ActiveMgr != "" {
		mgrs++
	}
	s.Mgrs = daemons(int(o.Cluster.Spec.Mgr.Count), mgrs)
	up := 0
	for _, target := range d.Targets {
		if known := o.osd(target.UUID); known != nil && known.Up && known.In {
			up++
		}
	}
	s.OSDs = daemons(len(d.Targets)+len(d.NewClaims), up)
	s.Versions = map[string]int32{}
	for version, count := range c.Versions {
		s.Versions[version] = int32(count)
	}
}

func daemons(desired, ready int) v1alpha1.DaemonStatus {
	return v1alpha1.DaemonStatus{Desired: int32(desired), Ready: int32(ready), Summary: fmt.Sprintf("%d/%d", ready, desired)}
}

// bytes rounds to MiB: a status that changed with every block written would
// never rest.
func bytes(n int64) *resource.Quantity {
	return resource.NewQuantity(n>>20<<20, resource.BinarySI)
}

func planOf(steps []Step) (plan []v1alpha1.PlanStep) {
	for i, s := range steps {
		if i == maxPlan-1 && len(steps) > maxPlan {
			return append(plan, v1alpha1.PlanStep{Name: "more", What: fmt.Sprintf("and %d more steps", len(steps)-i), Why: "the list is cut here"})
		}
		plan = append(plan, s.PlanStep)
	}
	return plan
}

// blockerOf chains the rules that say what holds things up: the first that
// finds something wins.
func blockerOf(o *Observed, d *Desired, steps []Step) *v1alpha1.Blocker {
	rules := []func(*Observed, *Desired, []Step) *v1alpha1.Blocker{inUse, keysMissing, monsMissing, networkMismatch, recoveryHeld, quorumLost, monNodesMissing, imageUnusable, upgradeRefused, encryptionKeyLost, diskFailed, storageFull, podFailing, upgradeHalted, invalidOption, deviceProblem, nodeLost, noQuorum, stepFailed, drainBlocked, nodeDrained, unapproved, gated}
	if recovering(o.Cluster) != nil {
		rules = []func(*Observed, *Desired, []Step) *v1alpha1.Blocker{keysMissing, stepFailed, nodeGone, podFailing, gated}
	}
	for _, rule := range rules {
		if b := rule(o, d, steps); b != nil {
			return b
		}
	}
	return nil
}

func blocker(reason, format string, args ...any) *v1alpha1.Blocker {
	return &v1alpha1.Blocker{Reason: reason, Message: fmt.Sprintf(format, args...)}
}

// storageFull: Ceph takes no writes that need room on an OSD that has none.
func storageFull(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	if o.Ceph == nil {
		return nil
	}
	for _, check := range o.Ceph.Status.Checks {
		if check.Code == "OSD_FULL" {
			return blocker(v1alpha1.ReasonFull, "Ceph takes no writes: %s. Add devices to spec.storage, or delete volumes; 'kubectl get blockpool -A' says what is stored where", check.Summary)
		}
	}
	return nil
}

// keysMissing: a cluster that exists without its keys must not get new ones.
func keysMissing(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	switch {
	case errors.As(o.KeysError, new(*mismatchError)):
		return blocker(v1alpha1.ReasonKeysMismatch, "%v. Restore the Secret that fits the data", o.KeysError)
	case o.KeysError != nil:
		return blocker(v1alpha1.ReasonKeysMissing, "%v. Restore the Secret from a backup", o.KeysError)
	case o.Keys == nil && o.hadKeys():
		return blocker(v1alpha1.ReasonKeysMissing, "the Secret %s with the fsid %s and the keys of the cluster is gone. Cairn makes no new ones, because they would not fit the data. Restore the Secret from a backup",
			KeysName(o.Cluster), o.founded())
	}
	return nil
}

func monNodesMissing(_ *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	if d.missingMonNodes > 0 {
		return blocker(v1alpha1.ReasonNotEnoughNodes, "%s", d.Problems[0].Message)
	}
	return nil
}

// deviceProblem reports the spec's devices that cannot be used, all in one line.
func deviceProblem(_ *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	if len(d.Problems) > 0 {
		messages := make([]string, 0, len(d.Problems))
		for _, problem := range d.Problems {
			messages = append(messages, problem.Message)
		}
		return blocker(d.Problems[0].Reason, "%s", strings.Join(messages, "; "))
	}
	if len(d.Targets)+len(d.NewClaims) == 0 && d.MonDeployments != nil {
		return blocker(v1alpha1.ReasonNoDevices, "no usable device matches spec.storage. 'kubectl get nodestorage' shows the devices and why each is refused")
	}
	return nil
}

// noQuorum reports a cluster that had a quorum and has none, under this StorageCluster or
// one before it.
func noQuorum(o *Observed, _ *Desired, _ []Step) *v1alpha1.Blocker {
	if o.Ceph != nil || o.Cluster.Status.FSID == "" && !o.hasData() {
		return nil
	}
	if ceph.Is(o.CephError, ceph.Forbidden) {
		return blocker(v1alpha1.ReasonCephUnreachable, "the mons refuse the key of client.admin that the Secret %s has: %v. It was changed by hand; or the quorum was rebuilt from a mon that was down when keys were made anew, and knows those before. "+
			"Restore the Secret with the key that the mons have; or have user mon., whose key never changes, import those of the Secrets: 'ceph auth import', as docs/cluster.md says", KeysName(o.Cluster), o.CephError)
	}
	return blocker(v1alpha1.ReasonCephUnreachable, "the mons do not answer: %v. Check the mon pods: 'kubectl -n %s get pods -l app.kubernetes.io/component=mon -o wide'", o.CephError, o.Cluster.Namespace)
}

// stepFailed reports the first step that was tried and did not succeed.
func stepFailed(_ *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	for _, s := range steps {
		if s.Failed != nil {
			return blocker(v1alpha1.ReasonStepFailed, "could not %s: %v. It is tried again", s.What, s.Failed)
		}
	}
	return nil
}

// gated reports a gate that holds up the first step, when no other work is open.
func gated(_ *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	if len(steps) == 0 || steps[0].Gate == "" || slices.ContainsFunc(steps, func(s Step) bool { return s.Gate == "" && !s.Wait }) {
		return nil
	}
	return blocker(cmp.Or(steps[0].Reason, v1alpha1.ReasonNotSafeToRestart), "'%s' waits until %s", steps[0].What, steps[0].Gate)
}

// block keeps the time since when a blocker of one reason stands.
func block(s *v1alpha1.StorageClusterStatus, o *Observed, b *v1alpha1.Blocker) {
	if b != nil {
		b.Message = bounded(b.Message)
		b.Since = metav1.NewTime(o.Now.Truncate(1e9))
		if old := s.Blocker; old != nil && old.Reason == b.Reason {
			b.Since = old.Since
		}
	}
	s.Blocker = b
}

func condition(kind string, ok bool, reason, message string) metav1.Condition {
	status := metav1.ConditionFalse
	if ok {
		status = metav1.ConditionTrue
	}
	return metav1.Condition{Type: kind, Status: status, Reason: reason, Message: message}
}

func quorumCondition(o *Observed) metav1.Condition {
	c := stateOf(o)
	if c == nil {
		return condition(v1alpha1.ConditionQuorum, false, v1alpha1.ReasonNoQuorum, fmt.Sprint(o.CephError))
	}
	return condition(v1alpha1.ConditionQuorum, true, v1alpha1.ReasonQuorate, fmt.Sprintf("mons %s of %s agree", strings.Join(c.Quorum, ","), strings.Join(c.Mons, ",")))
}

func healthCondition(o *Observed) metav1.Condition {
	c := stateOf(o)
	switch {
	case c == nil:
		return metav1.Condition{Type: v1alpha1.ConditionHealthy, Status: metav1.ConditionUnknown, Reason: v1alpha1.ReasonUnknown, Message: "the mons do not answer"}
	case c.Health == "HEALTH_OK":
		return condition(v1alpha1.ConditionHealthy, true, v1alpha1.ReasonHealthOK, "Ceph reports HEALTH_OK")
	}
	reason := v1alpha1.ReasonHealthWarn
	if c.Health == "HEALTH_ERR" {
		reason = v1alpha1.ReasonHealthErr
	}
	return condition(v1alpha1.ConditionHealthy, false, reason, summary(c))
}

func summary(c *ceph.Status) string {
	var reasons []string
	for _, check := range c.Checks {
		if !check.Muted {
			reasons = append(reasons, check.Code+": "+check.Summary)
		}
	}
	return c.Health + ": " + strings.Join(reasons, "; ")
}

// readyCondition is the one line that says how things stand.
func readyCondition(o *Observed, s *v1alpha1.StorageClusterStatus, steps []Step) metav1.Condition {
	switch {
	case s.Blocker != nil:
		return condition(v1alpha1.ConditionReady, false, s.Blocker.Reason, s.Blocker.Message)
	case len(steps) > 0:
		return condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonProgressing, steps[0].What)
	case o.Ceph == nil:
		return condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonCephUnreachable, fmt.Sprint(o.CephError))
	case o.Ceph.Status.StandbyMgrs+1 < int(o.Cluster.Spec.Mgr.Count):
		return condition(v1alpha1.ConditionReady, false, v1alpha1.ReasonWaitingForMgr, "wait for the second mgr to stand by")
	}
	return condition(v1alpha1.ConditionReady, true, v1alpha1.ReasonAsSpecified, "as specified")
}

// bounded keeps a message within what a condition may hold.
func bounded(message string) string {
	const limit = 4000
	if len(message) > limit {
		return strings.ToValidUTF8(message[:limit], "") + "…"
	}
	return message
}
