// Package kubectl runs kubectl against the lab, as a person would.
package kubectl

import (
	"bytes"
	"context"
	"fmt"
	"os"
	"os/exec"
	"path/filepath"
	"strings"
	"time"

	"github.com/cairn-storage/cairn/tests/lab"
)

// Namespace in which Cairn runs.
const Namespace = "cairn-system"

// Run runs kubectl and returns what it printed, without the last newline.
func Run(ctx context.Context, args ...string) (string, error) { return RunWith(ctx, "", args...) }

// RunWith is Run with a text on standard input. A kubelet that has only just started refuses a
// command in a pod before it has heard of the pod or started its containers: nothing ran then,
// and it is asked again.
func RunWith(ctx context.Context, input string, args ...string) (string, error) {
	var out string
	var err error
	what := "kubectl " + strings.Join(args, " ")
	if waited := Until(ctx, "the pod's kubelet to know it: "+what, func() (bool, string) {
		out, err = runOnce(ctx, input, args...)
		return err == nil || !strings.Contains(err.Error(), "unable to upgrade connection: "), fmt.Sprint(err)
	}); waited != nil {
		return out, waited
	}
	return out, err
}

func runOnce(ctx context.Context, input string, args ...string) (string, error) {
	cmd := Command(ctx, args...)
	cmd.Stdin = strings.NewReader(input)
	var out, errs bytes.Buffer
	cmd.Stdout, cmd.Stderr = &out, &errs
	if err := cmd.Run(); err != nil {
		return out.String(), fmt.Errorf("kubectl %s: %w: %s", strings.Join(args, " "), err, strings.TrimSpace(errs.String()+out.String()))
	}
	return strings.TrimRight(out.String(), "\n"), nil
}

// Command is kubectl with the lab's kubeconfig.
func Command(ctx context.Context, args ...string) *exec.Cmd {
	cmd := exec.CommandContext(ctx, filepath.Join(lab.KubernetesDir(), "kubectl"), args...)
	cmd.Env = append(os.Environ(), "KUBECONFIG="+lab.Kubeconfig())
	return cmd
}

// Get returns one field of an object by a jsonpath such as {.status.phase}.
func Get(ctx context.Context, namespace, object, jsonpath string) (string, error) {
	return Run(ctx, "-n", namespace, "get", object, "-o", "jsonpath="+jsonpath)
}

// Until asks again and again until check is satisfied. When the context ends,
// the error says what was waited for, since when, and what was seen last.
func Until(ctx context.Context, what string, check func() (done bool, seen string)) error {
	began := time.Now()
	tick := time.NewTicker(250 * time.Millisecond)
	defer tick.Stop()
	for {
		done, seen := check()
		if done {
			return nil
		}
		select {
		case <-ctx.Done():
			return fmt.Errorf("waited %s for %s; last seen: %s: %w", time.Since(began).Round(time.Second), what, seen, ctx.Err())
		case <-tick.C:
		}
	}
}

// UntilField waits until a field has a value.
func UntilField(ctx context.Context, namespace, object, jsonpath, want string) error {
	return Until(ctx, fmt.Sprintf("%s of %s to be %q", jsonpath, object, want), func() (bool, string) {
		got, err := Get(ctx, namespace, object, jsonpath)
		if err != nil {
			return false, err.Error()
		}
		return got == want, got
	})
}
