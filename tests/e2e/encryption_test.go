package e2e

import (
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/tests/e2e/kubectl"
)

// keySecret has the key that wraps the volumes' own.
func keySecret(key string) string {
	return fmt.Sprintf(`
apiVersion: v1
kind: Secret
metadata: {name: cairn-encryption, namespace: %s}
stringData: {encryptionKey: %q}
`, kubectl.Namespace, key)
}

// encryptedParameters of a StorageClass.
const encryptedParameters = `encrypted: "true",
  csi.storage.k8s.io/provisioner-secret-name: cairn-encryption, csi.storage.k8s.io/provisioner-secret-namespace: cairn-system,
  csi.storage.k8s.io/node-stage-secret-name: cairn-encryption, csi.storage.k8s.io/node-stage-secret-namespace: cairn-system`

// encryptedVolumes writes the same text to an encrypted volume and to one that is
// not, and looks for it in the objects of both images. Then the key changes.
func encryptedVolumes(t *testing.T) {
	const text = "a text that nobody else may read"
	write := func(name string) pod {
		return pod{name: name, filesystems: []string{name},
			script: fmt.Sprintf("for i in $(seq 2000); do echo '%s'; done >/%s/file; sync; touch /tmp/written", text, name)}
	}
	applyText(t, keySecret(strings.Repeat("0123456789abcdef", 4)))
	apply(t, class{name: "encrypted", fsid: fsid(t), parameters: encryptedParameters},
		claim{name: "closed", class: "encrypted"}, write("closed"), claim{name: "open"}, write("open"))
	running(t, "closed", "open")
	written(t, "closed")
	written(t, "open")
	require.Positive(t, objectsWith(t, volumeOf(t, "open"), text), "the check finds the text where it is")
	require.Zero(t, objectsWith(t, volumeOf(t, "closed"), text), "objects of the encrypted volume have the text")

	drop(t, "pod/closed")
	detached(t, "closed")
	_, err := kubectl.RunWith(bounded(t), keySecret("another passphrase, long enough"), "apply", "-f", "-")
	require.NoError(t, err)
	reader := pod{name: "closed", filesystems: []string{"closed"}, script: "tail -n 1 /closed/file"}
	apply(t, reader)
	t.Log(event(t, "Pod/closed", "FailedMount", "key of volume"))
	_, err = kubectl.RunWith(bounded(t), keySecret(strings.Repeat("0123456789abcdef", 4)), "apply", "-f", "-")
	require.NoError(t, err)
	running(t, "closed")
	require.Equal(t, text, in(t, "closed", "tail -n 1 /closed/file"), "with the right key again, all is there")
}

// objectsWith counts the objects of an image that have a text in plain.
func objectsWith(t *testing.T, image, text string) (count int) {
	out := inCeph(t, fmt.Sprintf(`prefix=$(rbd info fast/%s --format json | sed 's/.*"block_name_prefix":"\([^"]*\)".*/\1/')
for object in $(rados -p fast ls | grep "^$prefix"); do rados -p fast get "$object" - | grep -a -q '%s' && echo "$object" || true; done`, image, text))
	return len(strings.Fields(out))
}
