package agent

import (
	"fmt"
	"strings"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/disk"
)

// maxInSummary is how many devices the summary names.
const maxInSummary = 5

// statusOf says what a node has.
func statusOf(devices []v1alpha1.Device, methods []v1alpha1.AttachMethod) v1alpha1.NodeStorageStatus {
	return v1alpha1.NodeStorageStatus{
		Summary:       summarize(devices, methods),
		Devices:       devices,
		AttachMethods: methods,
	}
}

func summarize(devices []v1alpha1.Device, methods []v1alpha1.AttachMethod) v1alpha1.NodeSummary {
	var summary v1alpha1.NodeSummary
	var usable, osds, refused []string
	for _, device := range devices {
		switch {
		case device.OSD != nil:
			osds = append(osds, brief(device))
		case device.Usable:
			usable = append(usable, brief(device))
		default:
			refused = append(refused, brief(device))
		}
	}
	summary.Usable, summary.OSDs, summary.Refused = int32(len(usable)), int32(len(osds)), int32(len(refused))
	summary.Devices = line(append(append(usable, osds...), refused...))
	summary.Attach = "none"
	for _, method := range methods {
		if method.Available {
			summary.Attach = method.Name
			break
		}
	}
	return summary
}

// brief is a device in a few words: "wwn-0x5000c500a1b2c3d4 10Gi usable".
func brief(device v1alpha1.Device) string {
	name, state := device.ID, device.Reason
	if name == "" {
		name = device.Name
	}
	switch {
	case device.OSD != nil && device.OSD.ID >= 0:
		state = fmt.Sprintf("osd.%d", device.OSD.ID)
	case device.OSD != nil:
		state = "osd being made"
	case device.DBOf != "":
		state = "DB of an OSD"
	case device.Usable:
		state = "usable"
	}
	return fmt.Sprintf("%s %s %s", name, disk.Size(device.Size.Value()), state)
}

// line joins the first few, and says how many more there are.
func line(devices []string) string {
	more := len(devices) - maxInSummary
	if more > 0 {
		devices = append(devices[:maxInSummary:maxInSummary], fmt.Sprintf("+%d more", more))
	}
	return strings.Join(devices, "; ")
}
