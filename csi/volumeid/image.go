package volumeid

import (
	"crypto/sha256"
	"encoding/hex"
	"regexp"
	"strings"
)

// plainName is a request name that serves as the image name as it is:
// Kubernetes' own pvc-<uid>, and whatever looks like it.
var plainName = regexp.MustCompile(`^[a-z0-9][a-z0-9-]{0,47}$`)

// hashPrefix begins the image names that are hashes of the request name.
const hashPrefix = "csi-sha256-"

// ImageName returns the image name of a volume that was requested by a name:
// always the same for the same name, and another for another.
func ImageName(request string) string {
	if plainName.MatchString(request) && !strings.HasPrefix(request, hashPrefix) {
		return request
	}
	sum := sha256.Sum256([]byte(request))
	return hashPrefix + hex.EncodeToString(sum[:16])
}
