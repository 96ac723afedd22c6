package preview

import (
	"fmt"
	"io"
	"strings"
	"text/tabwriter"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// write writes an answer as a person reads it.
func (a *Answer) write(to io.Writer) error {
	var out strings.Builder
	fmt.Fprintf(&out, "%s %s: ", a.Kind, a.Name)
	switch {
	case a.Problem != "":
		fmt.Fprintln(&out, a.Problem)
	case len(a.Steps) == 0 && a.Blocker == nil && a.Stop == "":
		fmt.Fprintln(&out, "nothing to do, it is as specified")
	default:
		fmt.Fprintf(&out, "%d steps\n\n", len(a.Steps))
	}
	if len(a.Steps) > 0 {
		a.writeSteps(&out)
	}
	for _, line := range a.summary() {
		fmt.Fprintln(&out, line)
	}
	_, err := io.WriteString(to, out.String())
	return err
}

func (a *Answer) writeSteps(out io.Writer) {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "\tSTEP\tRISK\tWHAT\tWHY\tWAITS UNTIL")
	for i, s := range a.Steps {
		_, _ = fmt.Fprintf(table, "%d\t%s\t%s\t%s\t%s\t%s\n", i+1, s.Name, s.Risk, s.What, s.Why, s.Gate)
	}
	_ = table.Flush()
	_, _ = fmt.Fprintln(out)
}

// summary are the lines below the steps.
func (a *Answer) summary() (lines []string) {
	say := func(format string, args ...any) { lines = append(lines, fmt.Sprintf(format, args...)) }
	for _, part := range []struct {
		title string
		holds func(v1alpha1.PlanStep) bool
	}{
		{"Restarts", of(v1alpha1.RiskRestart)},
		{"Moves data", of(v1alpha1.RiskMovesData)},
		{"Reduces redundancy", of(v1alpha1.RiskReducesRedundancy)},
		{"Destroys", of(v1alpha1.RiskDestroys)},
		{"Needs approval", func(s v1alpha1.PlanStep) bool { return s.NeedsApproval }},
	} {
		if names := a.names(part.holds); len(names) > 0 {
			say("%-19s %s", part.title+":", strings.Join(names, ", "))
		}
	}
	for _, m := range a.Moves {
		say("%-19s %s of %s (%.0f %%), in %d of %d PGs, for %s%s", "Data that moves:", gib(m.Bytes), gib(m.Total), share(m.Bytes, m.Total), m.PGs, m.AllPGs, strings.Join(m.Steps, ", "), unsure(m.Unsure))
	}
	if a.MovesUnknown != "" {
		say("%-19s cannot be said: %s", "Data that moves:", a.MovesUnknown)
	}
	for _, assumed := range a.Assumes {
		say("%-19s %s", "Taken for granted:", assumed)
	}
	if len(a.Steps) > 0 {
		say("%-19s %s", "Redundancy:", a.redundancy())
	}
	if a.CapacityBefore > 0 || a.CapacityAfter > 0 {
		say("%-19s %s raw, now %s; %s are used", "Capacity:", gib(a.CapacityAfter), gib(a.CapacityBefore), gib(a.Used))
	}
	switch {
	case a.Blocker != nil && a.Stop != "":
		say("%-19s '%s': %s", "It stops at:", a.Stop, a.Blocker.Message)
	case a.Blocker != nil:
		say("%-19s %s", "It is blocked:", a.Blocker.Message)
	case a.Stop != "":
		say("%-19s '%s': what comes after that cannot be said now", "It is foreseen to:", a.Stop)
	}
	return lines
}

func of(risk v1alpha1.Risk) func(v1alpha1.PlanStep) bool {
	return func(s v1alpha1.PlanStep) bool { return s.Risk == risk }
}

func (a *Answer) names(holds func(v1alpha1.PlanStep) bool) (names []string) {
	for _, s := range a.Steps {
		if holds(s) {
			names = append(names, s.Name)
		}
	}
	return names
}

// redundancy is what may fail meanwhile.
func (a *Answer) redundancy() string {
	switch {
	case len(a.names(of(v1alpha1.RiskReducesRedundancy))) > 0:
		return "less may fail afterwards than now"
	case len(a.names(of(v1alpha1.RiskRestart))) > 0:
		return "one daemon less, or one node's OSDs, while they restart; then as now"
	}
	return "as now, all the time"
}

func gib(bytes int64) string { return fmt.Sprintf("%.1f GiB", float64(bytes)/(1<<30)) }

func share(part, whole int64) float64 {
	if whole == 0 {
		return 0
	}
	return 100 * float64(part) / float64(whole)
}

// unsure says that data is on its way already.
func unsure(pgs int) string {
	if pgs == 0 {
		return ""
	}
	return fmt.Sprintf("; %d PGs are not where CRUSH says now, so that it may be otherwise", pgs)
}
