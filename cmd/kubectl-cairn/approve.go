package main

import (
	"bufio"
	"context"
	"fmt"
	"io"
	"slices"
	"strings"
	"text/tabwriter"

	"github.com/spf13/cobra"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// planned is what a StorageCluster and a BlockPool have in common.
type planned struct {
	metav1.ObjectMeta `json:"metadata"`

	Status struct {
		ObservedGeneration int64               `json:"observedGeneration"`
		Plan               []v1alpha1.PlanStep `json:"plan"`
	} `json:"status"`
}

func newApproveCommand(k *kubectl) *cobra.Command {
	var yes bool
	c := &cobra.Command{
		Use:   "approve [blockpool/]NAME [STEP...]",
		Short: "Approve the steps of a StorageCluster, or of a BlockPool, that wait for it (spec.approval: Manual)",
		Long: "Approve the steps that wait for it: all of those, or the ones that are named.\n" +
			"An approval is for the spec as it is: it ends when the spec is edited.",
		Example: "  kubectl cairn approve main\n  kubectl cairn approve main osd-3-drain\n  kubectl cairn approve blockpool/fast",
		Args:    cobra.MinimumNArgs(1),
		RunE: func(c *cobra.Command, args []string) error {
			return approve(c.Context(), k, args[0], args[1:], yes, c.InOrStdin(), c.OutOrStdout())
		},
	}
	c.Flags().BoolVarP(&yes, "yes", "y", false, "do not ask")
	return c
}

// named tells kind and name from an argument such as blockpool/fast.
func named(argument string) (kind, name string, err error) {
	kind, name, found := strings.Cut(argument, "/")
	switch {
	case !found:
		return "storageclusters", argument, nil
	case strings.HasPrefix("storageclusters", kind) && len(kind) >= len("storagecluster"):
		return "storageclusters", name, nil
	case strings.HasPrefix("blockpools", kind) && len(kind) >= len("blockpool"):
		return "blockpools", name, nil
	}
	return "", "", fmt.Errorf("%q is neither storagecluster/NAME nor blockpool/NAME", argument)
}

func approve(ctx context.Context, k *kubectl, argument string, only []string, yes bool, in io.Reader, out io.Writer) error {
	kind, name, err := named(argument)
	if err != nil {
		return err
	}
	var object planned
	if err := k.get(ctx, kind, name, &object); err != nil {
		return err
	}
	waiting, err := object.waiting(only)
	if err != nil {
		return err
	}
	if len(waiting) == 0 {
		_, err := fmt.Fprintln(out, "no step waits for approval")
		return err
	}
	if err := show(out, waiting); err != nil {
		return err
	}
	if !yes && !confirmed(in, out) {
		return fmt.Errorf("nothing was approved")
	}
	for _, step := range waiting {
		v1alpha1.Approve(&object, step.Name)
	}
	// No precondition is needed: the value names the generation that was shown.
	_, err = k.run(ctx, nil, "annotate", kind+".cairn.storage", name, "--overwrite",
		v1alpha1.AnnotationApproved+"="+object.Annotations[v1alpha1.AnnotationApproved])
	if err != nil {
		return err
	}
	_, err = fmt.Fprintf(out, "approved: %d\n", len(waiting))
	return err
}

// waiting are the steps that wait for approval; of those that are named each must.
func (p *planned) waiting(only []string) (waiting []v1alpha1.PlanStep, err error) {
	if p.Status.ObservedGeneration != p.Generation {
		return nil, fmt.Errorf("the operator has not seen the last edit of %s yet: its plan is of the spec before. Try again", p.Name)
	}
	for _, step := range p.Status.Plan {
		if step.NeedsApproval && (len(only) == 0 || slices.Contains(only, step.Name)) {
			waiting = append(waiting, step)
		}
	}
	for _, name := range only {
		if !slices.ContainsFunc(waiting, func(s v1alpha1.PlanStep) bool { return s.Name == name }) {
			return nil, fmt.Errorf("no step %q of %s waits for approval", name, p.Name)
		}
	}
	return waiting, nil
}

func show(out io.Writer, steps []v1alpha1.PlanStep) error {
	table := tabwriter.NewWriter(out, 0, 0, 2, ' ', 0)
	_, _ = fmt.Fprintln(table, "STEP\tRISK\tWHAT\tWHY")
	for _, s := range steps {
		_, _ = fmt.Fprintf(table, "%s\t%s\t%s\t%s\n", s.Name, s.Risk, s.What, s.Why)
	}
	return table.Flush()
}

func confirmed(in io.Reader, out io.Writer) bool {
	_, _ = fmt.Fprint(out, "Approve? [y/N] ")
	answer, _ := bufio.NewReader(in).ReadString('\n')
	return slices.Contains([]string{"y", "yes"}, strings.ToLower(strings.TrimSpace(answer)))
}
