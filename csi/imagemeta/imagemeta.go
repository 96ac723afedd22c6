// Package imagemeta names what the driver keeps in the metadata of its images.
package imagemeta

import (
	"strconv"
	"strings"

	"github.com/cairn-storage/cairn/csi/volumeid"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

// The keys of an image's metadata.
const (
	// Name that the volume was asked for by. An image has it last of all that
	// its creation does: without it the creation was cut off.
	Name = "cairn.storage/name"
	// Features that were asked for, comma-separated.
	Features = "cairn.storage/image-features"
	// Claim that the volume is for.
	Claim = "cairn.storage/claim"
	// Source is the ID of the snapshot or volume that the volume was made from;
	// empty for none.
	Source = "cairn.storage/source"
	// Depth is how many parents the image has at most: 0 for one that was not
	// cloned, one more than its parent's for a clone.
	Depth = "cairn.storage/depth"
	// Limits of the image's I/O, as they were last set.
	Limits = "cairn.storage/limits"
	// Log of a clone's filesystem, where the volume was made to be read only:
	// LogPending until what is in the log was brought to its place, then who did
	// that. Other images have none, or an empty one: nothing is known of their logs.
	Log = "cairn.storage/log"
	// LogReplayer is who began last to replay the log.
	LogReplayer = "cairn.storage/log-replayer"
)

// LogPending is the Log of an image that nobody has read yet: one node may replay it.
const LogPending = "pending"

// TemporaryPrefix begins the names of snapshots that are made to clone a volume,
// and removed then; the name of the clone's image follows. No snapshot that is
// asked for has such a name.
const TemporaryPrefix = "cairn-clone."

// DepthOf returns how many parents an image has at most.
func DepthOf(info *ceph.ImageInfo) int {
	depth, err := strconv.Atoi(info.Metadata[Depth])
	if info.Parent == nil {
		return 0
	}
	if err != nil || depth < 1 {
		return 1
	}
	return depth
}

// VolumeName returns the name that an image had before it was hidden; its name
// when it is not hidden.
func VolumeName(name string, info *ceph.ImageInfo) string {
	if !Hidden(name) {
		return name
	}
	if asked := info.Metadata[Name]; asked != "" {
		return volumeid.ImageName(asked)
	}
	return name
}

// Hidden reports whether a name is that of an image that waits to be purged.
func Hidden(name string) bool {
	return strings.HasPrefix(name, ceph.HiddenPrefix)
}
