package osd

import (
	"fmt"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

// DBPath is the path of a target's DB device on its node; empty without one.
func (t Target) DBPath() string {
	if t.DB == "" {
		return ""
	}
	return Target{Device: t.DB}.Path()
}

// CheckDB says what keeps the DB device of a new OSD from serving it. mayHave are UUIDs
// of OSDs whose database may be there still.
func CheckDB(t Target, seen *v1alpha1.NodeStorage, mayHave ...string) *Problem {
	device := Find(seen, t.DB)
	if device == nil {
		return &Problem{v1alpha1.ReasonDeviceNotFound, fmt.Sprintf(
			"DB device %q of device %q on node %s does not exist there. The node has: %s. Correct dbDevice in spec.storage.nodes[%s].devices, or plug it in; both are used as soon as it appears",
			t.DB, t.Device, t.Node, ids(seen.Status.Devices), t.Node)}
	}
	if device.Usable {
		return nil
	}
	for _, uuid := range append(mayHave, t.UUID) {
		if device.DBOf == uuid {
			return nil
		}
	}
	return &Problem{v1alpha1.ReasonDeviceRefused, fmt.Sprintf("DB device %q of device %q on node %s is refused (%s): %s", t.DB, t.Device, t.Node, device.Reason, device.Message)}
}
