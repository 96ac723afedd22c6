package node

import (
	"context"
	"strings"

	corev1 "k8s.io/api/core/v1"
	"k8s.io/klog/v2"
)

// NearContext is the key in a volume's context that says that it is read from the
// nearest replica.
const NearContext = "readAffinity"

// crushLevels are the buckets of the CRUSH map above a host, and the labels of nodes
// that name them.
var crushLevels = []struct{ bucket, label string }{
	{"region", corev1.LabelTopologyRegion}, {"zone", corev1.LabelTopologyZone}, {"rack", "topology.cairn.storage/rack"},
}

// near is where this node is in the CRUSH map, for a volume that asks for it. A
// volume is not kept from a pod because that cannot be told: reads come from the
// primaries then.
func (s *Server) near(ctx context.Context, g staging) string {
	if !g.near {
		return ""
	}
	labels, err := s.labels(ctx)
	if err != nil {
		klog.FromContext(ctx).Error(err, "Reads come from the primaries", "volume", g.code)
		return ""
	}
	var location []string
	for _, level := range crushLevels {
		if value := labels[level.label]; value != "" {
			location = append(location, level.bucket+"="+bucket(value))
		}
	}
	return strings.Join(append(location, "host="+bucket(s.ID)), " ")
}

// bucket is a name as the operator gives it to CRUSH.
func bucket(name string) string { return strings.ReplaceAll(name, ".", "-") }
