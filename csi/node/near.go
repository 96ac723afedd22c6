package node

import (
	"context"

	"k8s.io/klog/v2"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// NearContext is the key in a volume's context that says that it is read from the
// nearest replica.
const NearContext = "readAffinity"

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
	return ceph.Location(s.ID, labels)
}
