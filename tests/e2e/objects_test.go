package e2e

import (
	"cmp"
	"context"
	"encoding/json"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
	"github.com/cairn-storage/cairn/tests/e2e/story"
)

// namespace that all claims and pods of the tests are in.
const namespace = "default"

// claim is a PersistentVolumeClaim: 512Mi of the pool, ReadWriteOnce and with a
// filesystem, unless it says otherwise.
type claim struct {
	name, class, size, access string
	block                     bool
	// from is a VolumeSnapshot or PersistentVolumeClaim: kind/name.
	from string
	// attributes is a VolumeAttributesClass, labels and more are as in YAML.
	attributes, labels, more string
}

func (c claim) String() string {
	mode := "Filesystem"
	if c.block {
		mode = "Block"
	}
	out := fmt.Sprintf(`
---
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: %s, namespace: %s, labels: {%s}}
spec:
  accessModes: [%s]
  volumeMode: %s
  storageClassName: %s
  resources: {requests: {storage: %s}}
`, c.name, namespace, c.labels, cmp.Or(c.access, "ReadWriteOnce"), mode, cmp.Or(c.class, story.Pool), cmp.Or(c.size, "512Mi"))
	switch kind, name, _ := strings.Cut(c.from, "/"); kind {
	case "VolumeSnapshot":
		out += "  dataSource: {apiGroup: snapshot.storage.k8s.io, kind: VolumeSnapshot, name: " + name + "}\n"
	case "PersistentVolumeClaim":
		out += "  dataSource: {kind: PersistentVolumeClaim, name: " + name + "}\n"
	}
	if c.attributes != "" {
		out += "  volumeAttributesClassName: " + c.attributes + "\n"
	}
	return out + c.more
}

// pod runs a shell script and then stays until it is deleted; or it runs the
// verifier.
type pod struct {
	name, script string
	// verifier has its arguments.
	verifier []string
	// node that it must run on; any when empty.
	node string
	// filesystems and devices are claims: each is /NAME, or /dev/NAME.
	filesystems, devices []string
	readOnly             bool
	// security context, and volumes in place of the claims' own, as in YAML.
	security, volumes string
}

func (p pod) String() string {
	var mounts, devices, volumes []string
	for _, name := range p.filesystems {
		mounts = append(mounts, fmt.Sprintf("{name: %[1]s, mountPath: /%[1]s, readOnly: %[2]t}", name, p.readOnly))
	}
	for _, name := range p.devices {
		devices = append(devices, fmt.Sprintf("{name: %[1]s, devicePath: /dev/%[1]s}", name))
	}
	for _, name := range append(p.filesystems, p.devices...) {
		volumes = append(volumes, fmt.Sprintf("{name: %[1]s, persistentVolumeClaim: {claimName: %[1]s, readOnly: %[2]t}}", name, p.readOnly))
	}
	selector := ""
	if p.node != "" {
		selector = "kubernetes.io/hostname: " + p.node
	}
	image, command := "cairn.storage/postgres:demo", []string{"bash", "-ec", p.script + "\nsleep infinity"}
	if p.verifier != nil {
		image, command = "cairn.storage/verifier:1", append([]string{"/verifier"}, p.verifier...)
	}
	run, _ := json.Marshal(command)
	return fmt.Sprintf(`
---
apiVersion: v1
kind: Pod
metadata: {name: %s, namespace: %s}
spec:
  restartPolicy: Never
  terminationGracePeriodSeconds: 0
  nodeSelector: {%s}
  securityContext: {%s}
  containers:
    - name: main
      image: %s
      imagePullPolicy: IfNotPresent
      env: [{name: PGUSER, value: postgres}]
      command: %s
      volumeMounts: [%s]
      volumeDevices: [%s]
  volumes: [%s]
`, p.name, namespace, selector, p.security, image, run,
		strings.Join(mounts, ", "), strings.Join(devices, ", "), cmp.Or(p.volumes, strings.Join(volumes, ", ")))
}

// apply applies objects, and has them deleted when the test ends.
func apply(t *testing.T, objects ...fmt.Stringer) {
	var text strings.Builder
	for _, o := range objects {
		text.WriteString(o.String())
	}
	applyText(t, text.String())
}

func applyText(t *testing.T, text string) {
	t.Helper()
	_, err := kubectl.RunWith(bounded(t), text, "apply", "-f", "-")
	require.NoError(t, err)
	t.Cleanup(func() { removeText(t, text) })
}

// removeText deletes objects; those that are gone already are fine. After a
// failure they stay, to be looked at.
func removeText(t *testing.T, text string) {
	if t.Failed() {
		return
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), limit)
	defer cancel()
	_, err := kubectl.RunWith(ctx, text, "delete", "--ignore-not-found", "--timeout=2m", "-f", "-")
	require.NoError(t, err)
}

// applyExample applies one of deploy/examples as it is.
func applyExample(t *testing.T, name string) {
	t.Helper()
	text, err := story.Example(name)
	require.NoError(t, err)
	applyText(t, text)
}

// running waits until pods run.
func running(t *testing.T, names ...string) {
	t.Helper()
	for _, name := range names {
		require.NoError(t, kubectl.UntilField(bounded(t), namespace, "pod/"+name, "{.status.phase}", "Running"))
	}
}

// in runs a shell command in a pod.
func in(t *testing.T, pod, command string) string {
	t.Helper()
	out, err := tryIn(t, pod, command)
	require.NoError(t, err)
	return out
}

func tryIn(t *testing.T, pod, command string) (string, error) {
	return kubectl.Run(bounded(t), "-n", namespace, "exec", pod, "--", "bash", "-ec", command)
}

// remove deletes objects and waits until they are gone.
func drop(t *testing.T, objects ...string) {
	t.Helper()
	_, err := kubectl.Run(bounded(t), append([]string{"-n", namespace, "delete", "--timeout=2m"}, objects...)...)
	require.NoError(t, err)
}

// event waits for an event of an object whose message has all the words, and returns the message.
func event(t *testing.T, object string, words ...string) string {
	t.Helper()
	kind, name, _ := strings.Cut(object, "/")
	var found string
	require.NoError(t, kubectl.Until(bounded(t), fmt.Sprintf("an event of %s with %q", object, words), func() (bool, string) {
		out, err := kubectl.Run(bounded(t), "-n", namespace, "get", "events", "--field-selector=involvedObject.kind="+kind+",involvedObject.name="+name,
			"-o", `jsonpath={range .items[*]}{.reason}: {.message}{"\n"}{end}`)
		if err != nil {
			return false, err.Error()
		}
		for line := range strings.Lines(out) {
			if hasAll(line, words) {
				found = strings.TrimSpace(line)
				return true, line
			}
		}
		return false, out
	}))
	return found
}

func hasAll(text string, words []string) bool {
	for _, word := range words {
		if !strings.Contains(text, word) {
			return false
		}
	}
	return true
}

// ready waits until a snapshot can be used.
func ready(t *testing.T, kind, name string) {
	t.Helper()
	const path = "{.status.readyToUse} {.status.error.message}"
	require.NoError(t, kubectl.Until(bounded(t), kind+" "+name+" to be ready", func() (bool, string) {
		seen, err := kubectl.Get(bounded(t), namespace, kind+"/"+name, path)
		return err == nil && strings.HasPrefix(seen, "true"), fmt.Sprint(seen, err)
	}))
}

// snapshot of a claim.
type snapshot struct{ name, claim string }

func (s snapshot) String() string {
	return fmt.Sprintf(`
---
apiVersion: snapshot.storage.k8s.io/v1
kind: VolumeSnapshot
metadata: {name: %s, namespace: %s}
spec: {volumeSnapshotClassName: %s, source: {persistentVolumeClaimName: %s}}
`, s.name, namespace, story.Pool, s.claim)
}
