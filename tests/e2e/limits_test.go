package e2e

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/verifier"
)

// limitsChangeRunningPods moves the claim of a running pod from no limit to a low
// one and to a high one, and counts what the pod can write in the same time.
func limitsChangeRunningPods(t *testing.T) {
	applyExample(t, "limits.yaml")
	applyText(t, `
apiVersion: storage.k8s.io/v1
kind: VolumeAttributesClass
metadata: {name: wrong}
driverName: block.csi.cairn.storage
parameters: {iops: "100", iopz: "5"}
`)
	apply(t, claim{name: "limited", block: true}, pod{name: "limited", verifier: []string{"hold"}, devices: []string{"limited"}})
	running(t, "limited")
	free := writes(t, "limited")
	become(t, "limited", "slow")
	slow := writes(t, "limited")
	become(t, "limited", "quick")
	quick := writes(t, "limited")
	t.Logf("writes in the same time: %d without a limit, %d with the class slow, %d with the class quick", free, slow, quick)
	require.Less(t, 3*slow, free, "the limit of the class slow")
	require.Less(t, 3*slow, quick, "the limit of the class quick")

	ask(t, "limited", "wrong")
	t.Log(event(t, "PersistentVolumeClaim/limited", "mutable_parameters.iopz", "the driver knows bandwidth, iops"))
}

// writes is how many writes a pod has acknowledged in a few seconds.
func writes(t *testing.T, name string) int64 {
	out, err := kubectl.Run(bounded(t), "-n", namespace, "exec", name, "--", "/verifier", "--path=/dev/"+name, "--size=16777216", "--depth=4", "--duration=4s")
	require.NoError(t, err)
	var result verifier.Result
	require.NoError(t, json.Unmarshal([]byte(out), &result), out)
	require.True(t, result.Sound(), out)
	return result.Acknowledged
}

func ask(t *testing.T, claim, class string) {
	_, err := kubectl.Run(bounded(t), "-n", namespace, "patch", "pvc", claim, "--type=merge", "-p", `{"spec":{"volumeAttributesClassName":"`+class+`"}}`)
	require.NoError(t, err)
}

// become has a claim changed to a VolumeAttributesClass.
func become(t *testing.T, claim, class string) {
	ask(t, claim, class)
	require.NoError(t, kubectl.UntilField(bounded(t), namespace, "pvc/"+claim, "{.status.currentVolumeAttributesClassName}", class))
}
