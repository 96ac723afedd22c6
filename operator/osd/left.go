package osd

import (
	"slices"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// Left reports whether the spec has let go of the device of an OSD: it names the
// devices of the OSD's node, and not this one; or it names the nodes, and not this
// one. What a filter or a selector does not match any more is kept: a label or a
// size that changed is no order to move data. So is a device while one of those
// named is nowhere to be seen: that may be another name of this one. An OSD whose
// leaving has begun is not held by that.
func Left(storage v1alpha1.StorageSpec, t Target, seen *v1alpha1.NodeStorage, begun bool) bool {
	at := slices.IndexFunc(storage.Nodes, func(n v1alpha1.StorageNode) bool { return n.Name == t.Node })
	if at < 0 {
		return storage.NodeSelector == nil
	}
	devices := storage.Nodes[at].Devices
	return len(devices) > 0 && !slices.ContainsFunc(devices, func(d v1alpha1.StorageDevice) bool {
		return d.Name == t.Device || !begun && Find(seen, d.Name) == nil
	})
}

// Find returns the device that bears a name; nil when a node does not show it.
func Find(seen *v1alpha1.NodeStorage, name string) *v1alpha1.Device {
	if seen == nil {
		return nil
	}
	at := slices.IndexFunc(seen.Status.Devices, func(d v1alpha1.Device) bool { return bears(d, name) })
	if at < 0 {
		return nil
	}
	return &seen.Status.Devices[at]
}
