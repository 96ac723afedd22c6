package sanity

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/onsi/ginkgo/v2"
	"github.com/onsi/ginkgo/v2/types"
)

// The end of each run says what was counted, and why specs were skipped.
var _ = ginkgo.ReportAfterSuite("summary", func(report ginkgo.Report) {
	fmt.Print(summary(report.SpecReports, AccessType()))
})

// summary counts the specs, and groups those that did not run by their reason.
func summary(specs types.SpecReports, kind string) string {
	skipped := map[string]int{}
	for _, spec := range specs.WithLeafNodeType(types.NodeTypeIt) {
		switch spec.State {
		case types.SpecStateSkipped:
			skipped[reason(spec)]++
		case types.SpecStatePending:
			skipped["pending in csi-test itself: "+spec.FullText()]++
		}
	}
	specs = specs.WithLeafNodeType(types.NodeTypeIt)
	var text strings.Builder
	fmt.Fprintf(&text, "\ncsi-sanity (%s): %d passed, %d failed\n", kind, specs.CountWithState(types.SpecStatePassed), specs.CountWithState(types.SpecStateFailureStates))
	for _, why := range slices.Sorted(maps.Keys(skipped)) {
		fmt.Fprintf(&text, "  not run: %d (%s)\n", skipped[why], why)
	}
	return text.String()
}

func reason(spec types.SpecReport) string {
	if why := spec.FailureMessage(); why != "" {
		return strings.TrimSpace(why)
	}
	return "the driver does not offer it: " + spec.ContainerHierarchyTexts[0]
}
