package osd

import (
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

func TestDomainsAreCountedByKindAndClass(t *testing.T) {
	node := func(name, zone string) corev1.Node {
		return corev1.Node{ObjectMeta: metav1.ObjectMeta{Name: name, Labels: map[string]string{corev1.LabelTopologyZone: zone}}}
	}
	nodes := []corev1.Node{node("n.1", "west"), node("n2", "west"), node("n3", "east")}
	osds := []ceph.OSD{{ID: 0, Host: "n-1", Class: "ssd"}, {ID: 1, Host: "n-1", Class: "hdd"}, {ID: 2, Host: "n2", Class: "ssd"}, {ID: 3, Host: "n3", Class: "hdd"}}
	for kind, want := range map[string][2]int{"osd": {4, 2}, "host": {3, 2}, "zone": {2, 1}} {
		require.Equal(t, want, [2]int{Domains(osds, kind, "", nodes), Domains(osds, kind, "ssd", nodes)}, kind)
	}
}
