package osd

import (
	"fmt"
	"slices"
	"strings"

	"github.com/google/uuid"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"
	"k8s.io/component-helpers/scheduling/corev1/nodeaffinity"
	"k8s.io/utils/ptr"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
)

// WantedClaim is a PersistentVolumeClaim that the spec asks for.
type WantedClaim struct {
	Name string
	Set  *v1alpha1.StorageClaims
}

// WantedClaims are those that the spec asks for, in order.
func WantedClaims(cluster *v1alpha1.StorageCluster) (wanted []WantedClaim) {
	for i := range cluster.Spec.Storage.Claims {
		set := &cluster.Spec.Storage.Claims[i]
		for index, left := int32(0), set.Count; left > 0; index++ {
			if !slices.Contains(set.Skip, index) {
				wanted = append(wanted, WantedClaim{Name: fmt.Sprintf("%s-%s-%d", cluster.Name, set.Name, index), Set: set})
				left--
			}
		}
	}
	return wanted
}

// Claim that an OSD lives on. It stays when the cluster is deleted, as its data does.
func Claim(cluster *v1alpha1.StorageCluster, fsid string, want WantedClaim) *corev1.PersistentVolumeClaim {
	claim := &corev1.PersistentVolumeClaim{
		ObjectMeta: kube.Kept(cluster, want.Name, Component, ""),
		Spec: corev1.PersistentVolumeClaimSpec{
			AccessModes:      []corev1.PersistentVolumeAccessMode{corev1.ReadWriteOnce},
			VolumeMode:       ptr.To(corev1.PersistentVolumeBlock),
			StorageClassName: want.Set.StorageClassName,
			Resources:        corev1.VolumeResourceRequirements{Requests: corev1.ResourceList{corev1.ResourceStorage: want.Set.Size}},
		},
	}
	claim.Annotations[kube.AnnotationFSID] = fsid
	return claim
}

// IsClaimOf reports whether a claim was made for the OSDs of a cluster.
func IsClaimOf(claim *corev1.PersistentVolumeClaim, cluster *v1alpha1.StorageCluster, fsid string) bool {
	return claim.Labels[kube.LabelManagedBy] == kube.Manager && claim.Labels[kube.LabelCluster] == cluster.Name &&
		claim.Labels[kube.LabelComponent] == Component && fsid != "" && claim.Annotations[kube.AnnotationFSID] == fsid
}

// ClaimUUID of the OSD that a cluster makes on a claim: another claim, be it of the same
// name, is another OSD.
func ClaimUUID(fsid string, claim types.UID) string {
	space, err := uuid.Parse(fsid)
	if err != nil {
		space = uuid.Nil
	}
	return uuid.NewSHA1(space, []byte("claim/"+claim)).String()
}

// PlaceClaim says where in the CRUSH map an OSD on a claim is, given what the claim is bound
// to: one that is portable is a host of its own, within what all nodes share that can have
// the volume; any other is in the one node that can. It is empty while that is not known, and
// why says so where it will never be.
func PlaceClaim(claim string, portable bool, volume *corev1.PersistentVolume, nodes []corev1.Node) (location, node, why string) {
	within, err := reaching(volume, nodes)
	switch {
	case err != nil:
		return "", "", err.Error()
	case len(within) == 0 && volume.Spec.NodeAffinity != nil && volume.Spec.NodeAffinity.Required != nil:
		return "", "", ""
	case portable && slices.ContainsFunc(nodes, func(n corev1.Node) bool { return ceph.Bucket(n.Name) == ceph.Bucket(claim) }):
		return "", "", "a node has the same name, and both would be one host in Ceph's CRUSH map"
	case portable:
		return "root=default " + ceph.Location(claim, shared(within)), "", ""
	case len(within) != 1:
		return "", "", fmt.Sprintf("its PersistentVolume %s can be used on %s, and not on one node alone", volume.Name, several(within))
	}
	return Location(&within[0]), within[0].Name, ""
}

// reaching are the nodes to which a volume is limited; none where it is not.
func reaching(volume *corev1.PersistentVolume, nodes []corev1.Node) (within []corev1.Node, err error) {
	if volume.Spec.NodeAffinity == nil || volume.Spec.NodeAffinity.Required == nil {
		return nil, nil
	}
	selector, err := nodeaffinity.NewNodeSelector(volume.Spec.NodeAffinity.Required)
	if err != nil {
		return nil, fmt.Errorf("the node affinity of PersistentVolume %s: %w", volume.Name, err)
	}
	for i := range nodes {
		if selector.Match(&nodes[i]) {
			within = append(within, nodes[i])
		}
	}
	return within, nil
}

func several(nodes []corev1.Node) string {
	if len(nodes) == 0 {
		return "any node"
	}
	names := make([]string, 0, len(nodes))
	for i := range nodes {
		names = append(names, nodes[i].Name)
	}
	return strings.Join(names, ", ")
}

// shared are the topology labels that nodes have in common.
func shared(nodes []corev1.Node) map[string]string {
	common := map[string]string{}
	for _, level := range ceph.Levels {
		for i := range nodes {
			value := nodes[i].Labels[level.Label]
			if i > 0 && value != common[level.Label] {
				value = ""
			}
			if common[level.Label] = value; value == "" {
				break
			}
		}
	}
	return common
}

// ClaimHost is the host that an OSD on a portable claim is in the CRUSH map, as a node with the
// labels that say where it is; false for any other OSD.
func ClaimHost(secret *corev1.Secret) (host corev1.Node, ok bool) {
	t := TargetOf(secret)
	if t.Claim == "" || t.Node != "" || t.Location == "" {
		return host, false
	}
	host = corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: t.Claim, Labels: map[string]string{}}}
	for part := range strings.FieldsSeq(t.Location) {
		kind, name, _ := strings.Cut(part, "=")
		if label := ceph.LevelLabel(kind); label != "" {
			host.Labels[label] = name
		}
	}
	return host, true
}
