package e2e

import (
	"encoding/json"
	"fmt"
	"maps"
	"math/rand/v2"
	"os"
	"strings"
	"testing"
	"time"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// endVerb ends a writer, and says what a verb that was done meanwhile has cost it.
func (w *writer) endVerb(t *testing.T, verb, format string, args ...any) {
	result := w.end(t)
	t.Logf("%s: %d writes acknowledged, 0 lost, longest stall %d ms", fmt.Sprintf(format, args...), result.Acknowledged, result.LongestStallMillis)
	note(t, verb, map[string]any{"acknowledged": result.Acknowledged, "longestStallMillis": result.LongestStallMillis})
}

// note keeps what was measured of a verb in the file CAIRN_E2E_NOTES, as a line of JSON.
func note(t *testing.T, verb string, measured map[string]any) {
	path := os.Getenv("CAIRN_E2E_NOTES")
	if path == "" {
		return
	}
	line := map[string]any{"verb": verb}
	maps.Copy(line, measured)
	out, err := json.Marshal(line)
	require.NoError(t, err)
	file, err := os.OpenFile(path, os.O_APPEND|os.O_CREATE|os.O_WRONLY, 0o600)
	require.NoError(t, err)
	_, err = file.Write(append(out, '\n'))
	require.NoError(t, err)
	require.NoError(t, file.Close())
}

// loseTheOperator takes all replicas of the operator away, within the next seconds,
// without giving them time to end.
func loseTheOperator(t *testing.T) {
	after := time.Duration(rand.Int64N(int64(5 * time.Second)))
	time.Sleep(after)
	_, err := kubectl.Run(bounded(t), "-n", kubectl.Namespace, "delete", "pods", "-l", "app.kubernetes.io/name=cairn-operator", "--grace-period=0", "--force")
	require.NoError(t, err)
	t.Logf("the operator was lost %.1f s after the edit", after.Seconds())
}

// untilBlocked waits until the cluster's blocker begins with a reason and contains
// some words, and returns how long that took.
func untilBlocked(t *testing.T, reason string, words ...string) time.Duration {
	t.Helper()
	began, said := time.Now(), ""
	require.NoError(t, kubectl.Until(bounded(t), "the status to say "+reason+strings.Join(words, ", "), func() (bool, string) {
		seen, err := kubectl.Get(bounded(t), kubectl.Namespace, "storagecluster/"+story.Cluster, "{.status.blocker.reason} {.status.blocker.message}")
		if err != nil {
			return false, err.Error()
		}
		said = seen
		for _, word := range words {
			if !strings.Contains(seen, word) {
				return false, seen
			}
		}
		return strings.HasPrefix(seen, reason), seen
	}))
	t.Logf("after %.0f s: %s", time.Since(began).Seconds(), last(said, 400))
	return time.Since(began)
}
