package v1alpha1

import "encoding/json"

// AnnotationCSIUsers of a NodeStorage says, as JSON, which CephX users the CSI driver of the
// node uses: the cluster's fsid → CSIUsers.
const AnnotationCSIUsers = "cairn.storage/csi-users"

// CSIUsers are the CephX users that a node uses in one cluster.
type CSIUsers struct {
	// Current is the one that every volume gets which is attached from now on.
	Current string `json:"current"`
	// Others are in use still: user → by what.
	Others map[string]string `json:"others,omitempty"`
}

// CSIUsersOf reads what a node's CSI driver said of a cluster; nil when it said nothing.
func CSIUsersOf(node *NodeStorage, fsid string) *CSIUsers {
	if node == nil {
		return nil
	}
	var all map[string]CSIUsers
	if json.Unmarshal([]byte(node.Annotations[AnnotationCSIUsers]), &all) != nil {
		return nil
	}
	if users, ok := all[fsid]; ok {
		return &users
	}
	return nil
}

// ByKernel is in what a volume is said to be attached by that keeps its user until it is
// detached.
const ByKernel = "by the kernel"
