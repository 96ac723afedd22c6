package cluster

import (
	"slices"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/operator/osd"
)

// claiming is a converged cluster that asks for a set of OSDs on claims as well.
func claiming(t *testing.T, count int32) *scene {
	s := running(t)
	s.Cluster.Spec.Storage.Claims = []v1alpha1.StorageClaims{{Name: "fast", Count: count, Size: resource.MustParse("10Gi"), Portable: true}}
	s.Claims, s.Volumes = map[string]*corev1.PersistentVolumeClaim{}, map[string]*corev1.PersistentVolume{}
	return s
}

// bound is a claim that was made and has a volume.
func (s *scene) bound(name string) *corev1.PersistentVolumeClaim {
	set := v1alpha1.StorageClaims{Name: "fast", Size: resource.MustParse("10Gi")}
	claim := osd.Claim(s.Cluster, s.Keys.FSID, osd.WantedClaim{Name: name, Set: &set})
	claim.UID, claim.Spec.VolumeName = types.UID("uid-"+name), "pv-"+name
	claim.Status.Phase, claim.Status.Capacity = corev1.ClaimBound, claim.Spec.Resources.Requests
	s.Claims[name], s.Volumes["pv-"+name] = claim, &corev1.PersistentVolume{}
	return claim
}

func (s *scene) named(name string) *Step {
	for _, step := range s.plan() {
		if step.Name == name {
			return &step
		}
	}
	return nil
}

func TestClaimsAreMadeBeforeTheirOSDs(t *testing.T) {
	s := claiming(t, 2)
	s.bound("main-fast-0")
	made := s.named("claim-main-fast-1")
	require.NotNil(t, made.MakeClaim)
	require.Equal(t, v1alpha1.RiskNone, made.Risk)
	require.Nil(t, s.named("claim-main-fast-0"))
	require.Equal(t, "root=default host=main-fast-0", s.named("osd-main-fast-0").NewOSD.Location)
	require.Nil(t, s.named("osd-main-fast-1"), "the OSD is that of the claim's UID")
	require.Equal(t, int32(8), s.status().OSDs.Desired)
}

func TestAClaimGrowsAndIsNeverMadeSmaller(t *testing.T) {
	s := claiming(t, 1)
	s.bound("main-fast-0")
	s.Cluster.Spec.Storage.Claims[0].Size = resource.MustParse("20Gi")
	grown := s.named("claim-main-fast-0")
	require.Equal(t, "grow PersistentVolumeClaim main-fast-0 to 20Gi", grown.What)
	require.Equal(t, v1alpha1.RiskNone, grown.Risk)
	s.Claims["main-fast-0"].Spec.Resources.Requests = corev1.ResourceList{"storage": resource.MustParse("30Gi")}
	require.Nil(t, s.named("claim-main-fast-0"))
}

// A claim is deleted when the spec does not ask for it, it is this very cluster's, and Ceph
// knows no OSD on it.
func TestWhichClaimsAreDeleted(t *testing.T) {
	for name, test := range map[string]struct {
		change func(*scene, *corev1.PersistentVolumeClaim)
		want   bool
	}{
		"one that never had an OSD": {func(*scene, *corev1.PersistentVolumeClaim) {}, true},
		"not one that is asked for": {func(s *scene, _ *corev1.PersistentVolumeClaim) { s.Cluster.Spec.Storage.Claims[0].Count = 1 }, false},
		"not one whose OSD Ceph knows": {func(s *scene, c *corev1.PersistentVolumeClaim) {
			s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: 9, UUID: osd.ClaimUUID(s.Keys.FSID, c.UID)})
		}, false},
		"not one of a cluster of the same name before": {func(_ *scene, c *corev1.PersistentVolumeClaim) {
			c.Annotations[kube.AnnotationFSID] = "99999999-0000-0000-0000-000000000000"
		}, false},
		"not one that a person made": {func(_ *scene, c *corev1.PersistentVolumeClaim) { delete(c.Labels, kube.LabelManagedBy) }, false},
		"not while Ceph does not answer": {func(s *scene, _ *corev1.PersistentVolumeClaim) {
			s.Ceph, s.CephError = nil, ceph.Errorf(ceph.Timeout, "status", "no answer")
		}, false},
	} {
		t.Run(name, func(t *testing.T) {
			s := claiming(t, 0)
			test.change(s, s.bound("main-fast-0"))
			step := s.named("claim-main-fast-0")
			if !test.want {
				require.True(t, step == nil || step.DropClaim == nil)
				return
			}
			require.NotNil(t, step.DropClaim)
			require.Equal(t, v1alpha1.RiskDestroys, step.Risk)
		})
	}
}

// The volume of a claim is a device of the node where its OSD runs. A filter that matches it
// does not make it a disk of that node, not even when the claim leaves.
func TestAnAttachedClaimIsNoDiskOfItsNode(t *testing.T) {
	for _, count := range []int32{1, 0} {
		s := claiming(t, count)
		claim := s.bound("main-fast-0")
		on := osd.Target{Claim: claim.Name, UUID: osd.ClaimUUID(s.Keys.FSID, claim.UID), Location: "root=default host=main-fast-0"}
		secret := osd.Secret(s.Cluster, on, "key", 9, true)
		s.Secrets[secret.Name], s.OSDKeys[on.UUID] = secret, "key"
		s.Ceph.OSDs = append(s.Ceph.OSDs, ceph.OSD{ID: 9, UUID: on.UUID, Up: true, In: true, Weight: 1})
		s.Cluster.Spec.Storage.Nodes[0] = v1alpha1.StorageNode{Name: "n1", Filter: &v1alpha1.DeviceFilter{IDPattern: ".*"}}
		devices := &s.Inventory["n1"].Status
		devices.Devices = append(devices.Devices, v1alpha1.Device{ID: "volume", OSD: &v1alpha1.DeviceOSD{ID: 9, UUID: on.UUID, FSID: s.Keys.FSID}})
		d := desired(s.Observed, "cairn:test")
		for _, target := range d.Targets {
			require.NotEqual(t, "volume", target.Device)
		}
		leaving := slices.ContainsFunc(d.Leaving, func(t osd.Target) bool { return t.UUID == on.UUID && t.Claim == claim.Name })
		require.Equal(t, count == 0, leaving)
	}
}
