package osd

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Domains counts the failure domains of a kind (osd, host, rack, zone or region)
// that OSDs of a device class are in; an empty class is any. Those above the host
// are told by the labels of the nodes.
func Domains(osds []ceph.OSD, kind, class string, nodes []corev1.Node) int {
	domains := map[string]bool{}
	for i := range osds {
		if class == "" || class == osds[i].Class {
			domains[domain(&osds[i], kind, nodes)] = true
		}
	}
	return len(domains)
}

func domain(known *ceph.OSD, kind string, nodes []corev1.Node) string {
	if kind == "osd" {
		return fmt.Sprint(known.ID)
	}
	for _, level := range ceph.Levels {
		if level.Bucket == kind {
			return labelOf(nodes, known.Host, level.Label)
		}
	}
	return known.Host
}

// labelOf returns a label of the node that a host bucket is; empty without one.
func labelOf(nodes []corev1.Node, host, label string) string {
	for i := range nodes {
		if ceph.Bucket(nodes[i].Name) == host {
			return nodes[i].Labels[label]
		}
	}
	return ""
}
