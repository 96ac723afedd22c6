package osd

import (
	"slices"
	"strconv"

	appsv1 "k8s.io/api/apps/v1"
	"k8s.io/apimachinery/pkg/api/resource"
)

// tib is what a weight in the CRUSH map counts.
const tib = 1 << 40

// weightOf a size, as the spec gives it; zero without one.
func weightOf(size string) float64 {
	q, err := resource.ParseQuantity(size)
	if err != nil {
		return 0
	}
	return q.AsApproximateFloat64() / tib
}

// flagWeight gives ceph-osd the weight with which it puts itself into the CRUSH map; it
// changes nothing for an OSD that is there.
const flagWeight = "--osd-crush-initial-weight"

// FirstWeight is the weight, in TiB, that an OSD gives itself at its first start, as its
// Deployment says; empty is that of its size.
func FirstWeight(d *appsv1.Deployment) string {
	command := d.Spec.Template.Spec.Containers[0].Command
	if at := slices.Index(command, flagWeight); at >= 0 && at+1 < len(command) {
		return command[at+1]
	}
	return ""
}

// Initial is the first weight of a new OSD, as ceph-osd takes it.
func Initial(weight float64) string {
	if weight == 0 {
		return ""
	}
	return strconv.FormatFloat(weight, 'f', 5, 64)
}
