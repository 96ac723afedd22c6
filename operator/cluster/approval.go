package cluster

import (
	"fmt"
	"slices"

	appsv1 "k8s.io/api/apps/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// assess says of every step what it risks, and closes those that wait for approval.
func (p *planner) assess() {
	p.risks()
	for i := range p.steps {
		s := &p.steps[i]
		s.NeedsApproval = p.o.needsApproval(s)
		if s.NeedsApproval && s.Gate == "" {
			s.Gate, s.Reason = "it is approved", v1alpha1.ReasonNeedsApproval
		}
	}
}

// needsApproval reports whether a step waits for a person.
func (o *Observed) needsApproval(s *Step) bool {
	return o.Cluster.Spec.Approval == v1alpha1.ApprovalManual && o.riskOf(s).Held() && !v1alpha1.Approved(o.Cluster, s.Name)
}

func (p *planner) risks() {
	for i := range p.steps {
		p.steps[i].Risk = p.o.riskOf(&p.steps[i])
	}
}

// riskOf is the risk that a step names, or that of its verb. One that is not known
// here is taken for the worst.
func (o *Observed) riskOf(s *Step) v1alpha1.Risk {
	switch {
	case s.Risk != "":
		return s.Risk
	case s.Wait, s.MakeKeys, s.MakeClaim != nil, s.NoOut != nil, s.Require != "", s.SetOption != nil, s.NextKey != nil, s.NewUser != nil, s.CommitKey != nil && s.Apply == nil:
		return v1alpha1.RiskNone
	case s.NewOSD != nil:
		return o.riskOfNewOSD()
	case s.SetOut != nil, s.SetWeight != nil:
		return v1alpha1.RiskMovesData
	case s.RemoveMon != "":
		return o.riskOfLosing(s.RemoveMon)
	case s.Purge == nil && s.Delete == nil && s.Apply != nil:
		return o.riskOfWriting(s)
	}
	return v1alpha1.RiskDestroys
}

// riskOfNewOSD is none while there is no pool but Ceph's own.
func (o *Observed) riskOfNewOSD() v1alpha1.Risk {
	if o.Ceph != nil && o.Ceph.Status.Pools > 1 {
		return v1alpha1.RiskMovesData
	}
	return v1alpha1.RiskNone
}

// riskOfLosing is none for a mon that is out of quorum: what it gave is lost already.
func (o *Observed) riskOfLosing(mon string) v1alpha1.Risk {
	if o.Ceph != nil && !slices.Contains(o.Ceph.Status.Quorum, mon) {
		return v1alpha1.RiskNone
	}
	return v1alpha1.RiskReducesRedundancy
}

// riskOfWriting is that of a daemon which runs and is started anew.
func (o *Observed) riskOfWriting(s *Step) v1alpha1.Risk {
	risk := v1alpha1.RiskNone
	for _, object := range s.Apply {
		wanted, ok := object.(*appsv1.Deployment)
		if !ok {
			continue
		}
		live := o.Deployments[wanted.Name]
		switch {
		case live == nil:
		case wanted.Labels[kube.LabelComponent] == osd.Component && osd.Moves(live, wanted):
			return v1alpha1.RiskMovesData
		default:
			risk = v1alpha1.RiskRestart
		}
	}
	return risk
}

// unapproved reports the steps that wait for approval, when no other work is open.
func unapproved(o *Observed, _ *Desired, steps []Step) *v1alpha1.Blocker {
	var held []Step
	for _, s := range steps {
		switch {
		case s.Gate == "" && !s.Wait:
			return nil
		case s.Reason == v1alpha1.ReasonNeedsApproval:
			held = append(held, s)
		}
	}
	if len(held) == 0 {
		return nil
	}
	more := ""
	if len(held) > 1 {
		more = fmt.Sprintf(" and %d more steps", len(held)-1)
	}
	return blocker(v1alpha1.ReasonNeedsApproval, "'%s' (%s)%s: spec.approval is Manual. 'kubectl cairn plan %s' shows what is to be done, 'kubectl cairn approve %s' approves it",
		held[0].What, held[0].Risk, more, o.Cluster.Name, o.Cluster.Name)
}
