package cluster

import (
	"fmt"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// diskFailed reports the OSDs that are down because of their devices, and what to do. What
// else is wrong with the spec's devices is told along: it may be the one that was to help.
func diskFailed(o *Observed, d *Desired, _ []Step) *v1alpha1.Blocker {
	var messages []string
	problems := slices.Clone(d.Problems)
	for _, target := range d.Targets {
		if why := o.failure(target); why != "" {
			known := o.osd(target.UUID)
			problems = slices.DeleteFunc(problems, func(p osd.Problem) bool {
				return strings.HasPrefix(p.Message, fmt.Sprintf("device %q on node %s ", target.Device, target.Node))
			})
			messages = append(messages, fmt.Sprintf("%s is down: %s. Bring the device back, and it goes on as before; or put a new one in its place: in spec.storage.nodes[%s].devices {name: NEW-DEVICE, replaces: %s} instead of %[4]s",
				called(known.ID, target), why, target.Node, target.Device))
		}
	}
	if len(messages) == 0 {
		return nil
	}
	for _, problem := range problems {
		messages = append(messages, problem.Message)
	}
	return blocker(v1alpha1.ReasonDiskFailed, "%s", strings.Join(messages, "; "))
}

// failure says what is wrong with the device of an OSD that has served data and is down;
// empty when its node is not ready or not inventoried, or nothing is.
func (o *Observed) failure(target osd.Target) string {
	known, node, seen := o.osd(target.UUID), o.node(target.Node), o.Inventory[target.Node]
	if target.Claim != "" || known == nil || known.Up || known.New || node == nil || !kube.NodeAnswers(node) || seen == nil {
		return ""
	}
	device := osd.Find(seen, target.Device)
	switch there := o.nodeWith(target); {
	case there == target.Node && o.failsByIO(target.UUID):
		return "reading or writing its device ends in I/O errors; see the kernel log of node " + target.Node
	case there == target.Node:
		return o.failureOfDB(target)
	case there != "":
		return "its device is in node " + there + " now"
	case device == nil:
		return "the node does not show its device any more"
	case device.Usable:
		return "its device is blank"
	}
	return fmt.Sprintf("its device does not show the OSD (%s: %s)", device.Reason, device.Message)
}

// notStarted are the problems with devices of OSDs that have not been up yet, and that are no
// targets for it: of those that have been up failure says more. While one is being made its
// device is in use; where another program uses it the OSD's pod says so.
func (o *Observed) notStarted(d *Desired) (problems []osd.Problem) {
	for _, target := range d.Targets {
		known, node, seen := o.osd(target.UUID), o.node(target.Node), o.Inventory[target.Node]
		if !target.Kept || target.Claim != "" || known == nil || known.Up || !known.New || node == nil || !kube.NodeAnswers(node) || seen == nil {
			continue
		}
		about := fmt.Sprintf("device %q on node %s ", target.Device, target.Node)
		device := osd.Find(seen, target.Device)
		switch {
		case slices.ContainsFunc(d.Problems, func(p osd.Problem) bool { return strings.HasPrefix(p.Message, about) }):
		case device == nil:
			problems = append(problems, osd.Problem{Reason: v1alpha1.ReasonDeviceNotFound, Message: about + fmt.Sprintf(
				"does not exist there any more, and osd.%d has not been up yet. Plug it in; it is used as soon as it appears", known.ID)})
		case !device.Usable && device.OSD == nil && device.Reason != v1alpha1.DeviceInUse:
			problems = append(problems, osd.Problem{Reason: v1alpha1.ReasonDeviceRefused, Message: about + fmt.Sprintf(
				"is refused (%s), and osd.%d has not been up yet: %s", device.Reason, known.ID, device.Message)})
		}
	}
	return problems
}

// failsByIO reports whether an OSD's pod ended because its device could not be read or written.
func (o *Observed) failsByIO(uuid string) bool {
	deployment := o.osdDeployment(uuid)
	return deployment != nil && slices.ContainsFunc(o.Pods, func(pod corev1.Pod) bool {
		return pod.Labels[kube.LabelComponent] == osd.Component && pod.Labels[kube.LabelInstance] == deployment.Labels[kube.LabelInstance] &&
			slices.ContainsFunc(pod.Status.ContainerStatuses, func(c corev1.ContainerStatus) bool {
				last := c.LastTerminationState.Terminated
				return c.State.Running == nil && last != nil && strings.Contains(last.Message, "Input/output error")
			})
	})
}

// leavesLost reports whether a pod is of an OSD that leaves because its device is lost:
// that it cannot start is no news.
func (o *Observed) leavesLost(d *Desired, pod *corev1.Pod) bool {
	return slices.ContainsFunc(d.Leaving, func(t osd.Target) bool {
		known := o.osd(t.UUID)
		return known != nil && pod.Labels[kube.LabelComponent] == osd.Component && pod.Labels[kube.LabelInstance] == fmt.Sprint(known.ID) && (o.deviceLost(known, t) || !known.Up && o.failureOfDB(t) != "")
	})
}
