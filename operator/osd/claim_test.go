package osd

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
	"k8s.io/apimachinery/pkg/types"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestTheIndexesOfASetAreTheFirstThatAreNotSkipped(t *testing.T) {
	cluster := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	cluster.Spec.Storage.Claims = []v1alpha1.StorageClaims{{Name: "a", Count: 3, Skip: []int32{1}}, {Name: "b", Count: 0}, {Name: "c", Count: 1, Skip: []int32{0, 1}}}
	var names []string
	for _, want := range WantedClaims(cluster) {
		names = append(names, want.Name)
	}
	require.Equal(t, []string{"main-a-0", "main-a-2", "main-a-3", "main-c-2"}, names)
}

func TestAnotherClaimOrAnotherClusterIsAnotherOSD(t *testing.T) {
	uuids := map[string]bool{}
	for _, cluster := range []string{fsid, "99999999-2222-3333-4444-555555555555"} {
		for _, claim := range []types.UID{"1", "2"} {
			require.Equal(t, ClaimUUID(cluster, claim), ClaimUUID(cluster, claim))
			uuids[ClaimUUID(cluster, claim)] = true
		}
	}
	require.Len(t, uuids, 4)
}

func TestWhereAnOSDOnAClaimIs(t *testing.T) {
	node := func(name, zone, region string) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{
			corev1.LabelHostname: name, corev1.LabelTopologyZone: zone, corev1.LabelTopologyRegion: region, "driver/zone": zone}}}
	}
	nodes := []corev1.Node{node("n1", "a", "eu"), node("n2", "a", "eu"), node("n3", "b", "eu"), node("n4", "", "us")}
	within := func(key string, values ...string) *corev1.PersistentVolume {
		return &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}, Spec: corev1.PersistentVolumeSpec{NodeAffinity: &corev1.VolumeNodeAffinity{Required: &corev1.NodeSelector{
			NodeSelectorTerms: []corev1.NodeSelectorTerm{{MatchExpressions: []corev1.NodeSelectorRequirement{{Key: key, Operator: corev1.NodeSelectorOpIn, Values: values}}}}}}}}
	}
	anywhere := &corev1.PersistentVolume{ObjectMeta: metav1.ObjectMeta{Name: "pv"}}
	for name, test := range map[string]struct {
		claim          string
		portable       bool
		volume         *corev1.PersistentVolume
		location, node string
		why            string
	}{
		"portable, of every node":             {"c-0", true, anywhere, "root=default host=c-0", "", ""},
		"portable, of a zone":                 {"c-0", true, within("driver/zone", "a"), "root=default region=eu zone=a host=c-0", "", ""},
		"portable, of two zones of a region":  {"c-0", true, within("driver/zone", "a", "b"), "root=default region=eu host=c-0", "", ""},
		"portable, of nodes that are not yet": {"c-0", true, within("driver/zone", "z"), "", "", ""},
		"portable, named as a node is":        {"n3", true, anywhere, "", "", "a node has the same name"},
		"local":                               {"c-0", false, within(corev1.LabelHostname, "n3"), "root=default region=eu zone=b host=n3", "n3", ""},
		"local, of a node that is not yet":    {"c-0", false, within(corev1.LabelHostname, "n9"), "", "", ""},
		"not local, of every node":            {"c-0", false, anywhere, "", "", "can be used on any node, and not on one node alone"},
		"not local, of a zone":                {"c-0", false, within("driver/zone", "a"), "", "", "can be used on n1, n2, and not on one node alone"},
	} {
		t.Run(name, func(t *testing.T) {
			location, on, why := PlaceClaim(test.claim, test.portable, test.volume, nodes)
			require.Equal(t, [2]string{test.location, test.node}, [2]string{location, on})
			require.Contains(t, why, test.why)
			require.Equal(t, test.why == "", why == "")
		})
	}
}

// Portable OSDs are hosts of their own, and count to the zone that their volumes are in.
func TestDomainsOfOSDsOnClaims(t *testing.T) {
	cluster := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Name: "main"}}
	var osds []ceph.OSD
	var hosts []corev1.Node
	for i, zone := range []string{"a", "a", "b"} {
		claim := string(rune('p' + i))
		secret := Secret(cluster, Target{Claim: claim, UUID: ClaimUUID(fsid, types.UID(claim)), Location: "root=default zone=" + zone + " host=" + claim}, "key", i, true)
		host, ok := ClaimHost(secret)
		require.True(t, ok)
		hosts, osds = append(hosts, host), append(osds, ceph.OSD{ID: i, Host: claim})
	}
	_, ok := ClaimHost(Secret(cluster, Target{Claim: "x", Node: "n1", UUID: ClaimUUID(fsid, "x"), Location: "root=default host=n1"}, "key", 9, true))
	require.False(t, ok, "one of a node is in the node")
	require.Equal(t, 3, Domains(osds, "host", "", hosts))
	require.Equal(t, 2, Domains(osds, "zone", "", hosts))
}
