package pool

import (
	"fmt"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Plan is what leads from the pool of a BlockPool's data as it is (nil when there is none)
// to one as it should be, each step with its risk.
func Plan(now *ceph.Pool, pool *v1alpha1.BlockPool) (steps []v1alpha1.PlanStep) {
	return planOf(now, spec(pool), pool)
}

func planOf(now *ceph.Pool, want ceph.PoolSpec, pool *v1alpha1.BlockPool) (steps []v1alpha1.PlanStep) {
	add := func(name string, risk v1alpha1.Risk, what, why string, args ...any) {
		steps = append(steps, v1alpha1.PlanStep{Name: name, Risk: risk, What: fmt.Sprintf(what, args...), Why: why})
	}
	if now == nil {
		add("create", v1alpha1.RiskNone, "make pool %s with %s, each in its own %s", "there is none", want.Name, parts(want), want.FailureDomain)
		return steps
	}
	if was := now.Spec; was.FailureDomain != want.FailureDomain || was.DeviceClass != want.DeviceClass {
		add("placement", riskOfPlacement(was, want), "place the replicas in different %ss%s, instead of different %ss%s", "spec.failureDomain or spec.deviceClass changed",
			want.FailureDomain, ofClass(want), was.FailureDomain, ofClass(was))
	}
	switch was := now.Spec.Size; {
	case was < want.Size:
		add("replicas", v1alpha1.RiskMovesData, "keep %d replicas instead of %d", "spec.replicas changed", want.Size, was)
	case was > want.Size:
		add("replicas", v1alpha1.RiskReducesRedundancy, "keep %d replicas instead of %d", "spec.replicas changed", want.Size, was)
	}
	if now.Spec.QuotaBytes != want.QuotaBytes {
		add("quota", v1alpha1.RiskNone, "limit what is stored to %s instead of %s", "spec.quota changed", limit(want.QuotaBytes), limit(now.Spec.QuotaBytes))
	}
	if now.Spec.Compression != want.Compression {
		add("compression", v1alpha1.RiskNone, "compress what is written by %s instead of %s", "spec.compression changed", mode(want.Compression), mode(now.Spec.Compression))
	}
	if now.Spec.DataPool != want.DataPool {
		add("dataPool", v1alpha1.RiskNone, "have new volumes keep their data in pool %s", "spec.erasureCoded", want.DataPool)
	}
	if now.Spec.Application != want.Application {
		add("application", v1alpha1.RiskNone, "mark the pool for %s", "it holds block volumes", want.Application)
	}
	if len(steps) == 0 && now.Spec != want {
		add("change", v1alpha1.RiskDestroys, "change pool %s", "its spec changed in a way whose risk is not known", want.Name)
	}
	for i := range steps {
		steps[i].NeedsApproval = steps[i].Risk.Held() && !v1alpha1.Approved(pool, steps[i].Name)
	}
	return steps
}

// parts of an object that a pool keeps.
func parts(spec ceph.PoolSpec) string {
	switch {
	case spec.DataChunks > 0:
		return fmt.Sprintf("%d data and %d coding chunks of each object", spec.DataChunks, spec.CodingChunks)
	case spec.DataPool != "":
		return fmt.Sprintf("%d replicas of the volumes' metadata", spec.Size)
	}
	return fmt.Sprintf("%d replicas", spec.Size)
}

// domains from the smallest to the largest.
var domains = []string{"osd", "host", "rack", "zone", "region"}

// riskOfPlacement: with smaller failure domains than before, less may fail.
func riskOfPlacement(was, want ceph.PoolSpec) v1alpha1.Risk {
	if slices.Index(domains, want.FailureDomain) < slices.Index(domains, was.FailureDomain) {
		return v1alpha1.RiskReducesRedundancy
	}
	return v1alpha1.RiskMovesData
}

func ofClass(spec ceph.PoolSpec) string {
	if spec.DeviceClass == "" {
		return ""
	}
	return " of device class " + spec.DeviceClass
}

// mode of compression, in the words of the spec.
func mode(compression string) string {
	if compression == "" {
		return "none"
	}
	return compression
}

func limit(bytes int64) string {
	if bytes == 0 {
		return "nothing"
	}
	return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30))
}

// plan is what is left to do, and the error that holds it when some of it waits for approval.
func (o *Observed) plan() (steps []v1alpha1.PlanStep, held error) {
	steps = Plan(o.InCeph, o.Pool)
	if o.Pool.Spec.ErasureCoded != nil {
		steps = append(steps, planOf(o.Images, imagesSpec(o.Pool), o.Pool)...)
	}
	var waiting []string
	for i := range steps {
		s := &steps[i]
		if s.NeedsApproval = s.NeedsApproval && o.Cluster.Spec.Approval == v1alpha1.ApprovalManual; s.NeedsApproval {
			s.Gate = "it is approved"
			waiting = append(waiting, fmt.Sprintf("'%s' (%s)", s.What, s.Risk))
		}
	}
	if len(waiting) == 0 {
		return steps, nil
	}
	return steps, &stop{v1alpha1.ReasonNeedsApproval, fmt.Sprintf("%s: spec.approval of StorageCluster %s is Manual. 'kubectl cairn approve blockpool/%s' approves it",
		strings.Join(waiting, " and "), o.Cluster.Name, o.Pool.Name), lookAgain}
}
