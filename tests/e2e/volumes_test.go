package e2e

import (
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
	"github.com/cairn-storage/cairn/tests/lab"
	"github.com/cairn-storage/cairn/tests/verifier"
)

// verifierPod is a claim and a pod that writes to it and reads back.
func verifierPod(name, class, mode, duration string) string {
	attach, path := "volumeMounts: [{name: data, mountPath: /data}]", "/data/verify"
	if mode == "Block" {
		attach, path = "volumeDevices: [{name: data, devicePath: /dev/data}]", "/dev/data"
	}
	return fmt.Sprintf(`
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %[1]s, namespace: default}
spec: {accessModes: [ReadWriteOnce], volumeMode: %[3]s, storageClassName: %[2]s, resources: {requests: {storage: 512Mi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: %[1]s, namespace: default}
spec:
  restartPolicy: Never
  containers:
    - name: verifier
      image: cairn.storage/verifier:1
      imagePullPolicy: IfNotPresent
      command: [/verifier, --path, %[5]s, --duration, %[6]s]
      %[4]s
  volumes: [{name: data, persistentVolumeClaim: {claimName: %[1]s}}]
`, name, class, mode, attach, path, duration)
}

// run starts a verifier and returns a function that waits for its result.
func run(t *testing.T, name, class, mode, duration string) (wait func() *verifier.Result) {
	ctx := bounded(t)
	_, err := kubectl.RunWith(ctx, verifierPod(name, class, mode, duration), "apply", "-f", "-")
	require.NoError(t, err)
	require.NoError(t, kubectl.Until(ctx, name+" to run", func() (bool, string) {
		phase, err := kubectl.Get(ctx, "default", "pod/"+name, "{.status.phase}")
		return err == nil && phase != "Pending", phase
	}))
	return func() *verifier.Result {
		require.NoError(t, kubectl.Until(ctx, name+" to finish", func() (bool, string) {
			phase, err := kubectl.Get(ctx, "default", "pod/"+name, "{.status.phase}")
			return err == nil && (phase == "Succeeded" || phase == "Failed"), phase
		}))
		logs, err := kubectl.Run(ctx, "-n", "default", "logs", name)
		require.NoError(t, err)
		var result verifier.Result
		require.NoError(t, json.NewDecoder(strings.NewReader(logs)).Decode(&result), logs)
		_, err = kubectl.Run(ctx, "-n", "default", "delete", "pod", name, "--timeout=2m")
		require.NoError(t, err)
		return &result
	}
}

func everyVolumeKind(t *testing.T) {
	ctx := bounded(t)
	ext4, err := kubectl.Run(ctx, "get", "storageclass", story.Pool, "-o", "yaml")
	require.NoError(t, err)
	ext4 = strings.NewReplacer("name: fast", "name: fast-ext4", "fstype: xfs", "fstype: ext4", `is-default-class: "true"`, `is-default-class: "false"`).Replace(ext4)
	ext4 = withoutLine(ext4, "uid:", "resourceVersion:", "creationTimestamp:")
	_, err = kubectl.RunWith(ctx, ext4, "create", "-f", "-")
	require.NoError(t, err)
	waits := map[string]func() *verifier.Result{
		"ext4":      run(t, "ext4", "fast-ext4", "Filesystem", "5s"),
		"xfs":       run(t, "xfs", story.Pool, "Filesystem", "5s"),
		"raw block": run(t, "block", story.Pool, "Block", "5s"),
	}
	for kind, wait := range waits {
		result := wait()
		require.True(t, result.Sound(), "%s: %+v", kind, result)
		t.Logf("%s: %d writes acknowledged, each read back", kind, result.Acknowledged)
	}
	_, err = kubectl.Run(ctx, "delete", "storageclass", "fast-ext4")
	require.NoError(t, err)
}

func withoutLine(text string, starts ...string) string {
	var kept []string
lines:
	for _, line := range strings.Split(text, "\n") {
		for _, start := range starts {
			if strings.HasPrefix(strings.TrimSpace(line), start) {
				continue lines
			}
		}
		kept = append(kept, line)
	}
	return strings.Join(kept, "\n")
}

// deletedClaimsLeaveNothing deletes every claim and looks for what is left of
// them: volumes, images, loop devices, records. Then the pool and the cluster,
// whose deletion waited for this, go too.
func deletedClaimsLeaveNothing(t *testing.T) {
	ctx := bounded(t)
	_, err := kubectl.Run(ctx, "-n", "default", "delete", "statefulset,pod,pvc", "--all", "--timeout=3m")
	require.NoError(t, err)
	for _, kind := range []string{"pv", "volumeattachment"} {
		require.NoError(t, kubectl.Until(ctx, "every "+kind+" to be gone", func() (bool, string) {
			left, err := kubectl.Run(ctx, "get", kind, "-o", "name")
			return err == nil && left == "", left
		}))
	}
	nodes, err := lab.Nodes()
	require.NoError(t, err)
	for _, node := range nodes {
		out, err := node.Exec(ctx, "sh", "-c", "ls -A /var/lib/cairn/csi/node /var/lib/cairn/csi/attach | grep -v -e '^/' -e sock; grep -c /var/lib/cairn/csi /proc/mounts; losetup -n -O BACK-FILE -l | grep /var/lib/cairn/csi; true")
		require.NoError(t, err)
		t.Logf("%s: %s", node.Name, out)
		require.NotContains(t, out, ".json", "records of volumes on "+node.Name)
		require.NotContains(t, out, "/var/lib/cairn/csi/attach", "loop devices on "+node.Name)
	}
	for _, object := range []string{"blockpool/" + story.Pool, "storagecluster/" + story.Cluster} {
		require.NoError(t, kubectl.Until(ctx, object+" to be gone", func() (bool, string) {
			left, err := kubectl.Run(ctx, "-n", kubectl.Namespace, "get", object, "--ignore-not-found", "-o", "name")
			return err == nil && left == "", left
		}))
	}
	classes, err := kubectl.Run(ctx, "get", "storageclass", "-o", "name")
	require.NoError(t, err)
	require.Empty(t, classes)
}
