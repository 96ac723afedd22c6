package osd

import (
	"strconv"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Domains counts the failure domains of a kind (osd, host, rack, zone or region)
// that OSDs of a device class are in; an empty class is any. Those above the host
// are told by the labels of the nodes.
func Domains(osds []ceph.OSD, kind, class string, nodes []corev1.Node) int {
	domains, above := map[string]bool{}, aboveHosts(kind, nodes)
	for i := range osds {
		known := &osds[i]
		switch {
		case class != "" && class != known.Class:
		case kind == "osd":
			domains[strconv.Itoa(known.ID)] = true
		case above != nil:
			domains[above[known.Host]] = true
		default:
			domains[known.Host] = true
		}
	}
	delete(domains, "") // what bears no label of the kind is in none of them
	return len(domains)
}

// aboveHosts says of each host bucket in which domain of a kind it is, by the label
// of its node; nil when the kind is none above the host.
func aboveHosts(kind string, nodes []corev1.Node) map[string]string {
	label := ceph.LevelLabel(kind)
	if label == "" {
		return nil
	}
	above := make(map[string]string, len(nodes))
	for i := range nodes {
		above[ceph.Bucket(nodes[i].Name)] = ceph.Bucket(nodes[i].Labels[label])
	}
	return above
}
