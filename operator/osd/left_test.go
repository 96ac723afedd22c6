package osd

import (
	"testing"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
)

func TestTheSpecLetsGoOfADeviceOnlyByNotNamingIt(t *testing.T) {
	target := Target{Node: "n1", Device: "disk2"}
	seen := &v1alpha1.NodeStorage{Status: v1alpha1.NodeStorageStatus{Devices: []v1alpha1.Device{{ID: "disk1"}, {ID: "disk2"}}}}
	node := func(name string, devices ...string) v1alpha1.StorageNode {
		n := v1alpha1.StorageNode{Name: name}
		for _, device := range devices {
			n.Devices = append(n.Devices, v1alpha1.StorageDevice{Name: device})
		}
		return n
	}
	for name, test := range map[string]struct {
		storage v1alpha1.StorageSpec
		seen    *v1alpha1.NodeStorage
		begun   bool
		left    bool
	}{
		"it is named":                                {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n1", "disk1", "disk2")}}, seen, false, false},
		"another is named":                           {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n1", "disk1")}}, seen, false, true},
		"its node is not named":                      {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n2", "disk2")}}, seen, false, true},
		"a selector may select its node":             {v1alpha1.StorageSpec{NodeSelector: &metav1.LabelSelector{}}, seen, false, false},
		"its node has a filter":                      {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n1")}}, seen, false, false},
		"one that is named is nowhere":               {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n1", "wwn-1")}}, seen, false, false},
		"one that is named is nowhere, it has begun": {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n1", "wwn-1")}}, seen, true, true},
		"the agent has said nothing":                 {v1alpha1.StorageSpec{Nodes: []v1alpha1.StorageNode{node("n1", "disk1")}}, nil, false, false},
	} {
		t.Run(name, func(t *testing.T) {
			require.Equal(t, test.left, Left(test.storage, target, test.seen, test.begun))
		})
	}
}
