package cluster_test

import (
	"context"
	"fmt"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

func onHost(c *v1alpha1.StorageCluster) { c.Spec.Network.Provider = "host" }

// known are the addresses of mons that new daemons and clients are told.
func (s *site) monHosts() string {
	var object corev1.ConfigMap
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.name + "-ceph-conf"}, &object))
	_, file, _ := strings.Cut(object.Data["ceph.conf"], "mon_host = ")
	file, _, _ = strings.Cut(file, "\n")
	cred, err := cluster.Credentials(s.t.Context(), s.Client, s.cluster())
	require.NoError(s.t, err)
	require.Equal(s.t, file, cred.MonHost)
	return file
}

// at are the addresses of nodes as mon_host has them.
func at(addresses ...string) string {
	var hosts []string
	for _, a := range addresses {
		hosts = append(hosts, fmt.Sprintf("[v2:%s:3300,v1:%s:6789]", a, a))
	}
	return strings.Join(hosts, ",")
}

func nodes(names ...string) (addresses []string) {
	for _, name := range names {
		addresses = append(addresses, simulation.Address(name))
	}
	return addresses
}

// On the host network a mon that comes after another may have its address.
func TestMonsOfTheHostNetworkGoAndCome(t *testing.T) {
	s := clocked(t, onHost)
	require.Equal(t, at(nodes("node1", "node2", "node3")...), s.monHosts())
	for _, step := range []struct {
		count          int32
		quorate, hosts string
	}{{1, "a of a", at(nodes("node1")...)}, {3, "ade of ade", at(nodes("node1", "node2", "node3")...)}} {
		s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Mon.Count = step.count })
		s.looksUntil(step.quorate, func() bool { return s.quorate() == step.quorate })
		s.converge()
		require.Equal(t, step.hosts, s.monHosts())
	}
	s.rests()
}

// A node that gets another address gets another mon: a mon's address is in the monmap.
func TestAMonLeavesAnAddressThatItsNodeHasNoMore(t *testing.T) {
	s := clocked(t, onHost)
	readdress := func(ctx context.Context, address string) {
		var node corev1.Node
		require.NoError(t, s.Client.Get(ctx, client.ObjectKey{Name: "node3"}, &node))
		node.Status.Addresses = []corev1.NodeAddress{{Type: corev1.NodeInternalIP, Address: address}}
		require.NoError(t, s.Client.Status().Update(ctx, &node))
	}
	before := s.generations()
	t.Cleanup(func() { readdress(context.WithoutCancel(t.Context()), simulation.Address("node3")) })
	readdress(t.Context(), "10.9.1.3")
	s.look()
	require.Contains(t, fmt.Sprint(s.cluster().Status.Plan), "node node3 has another address than the mon: 10.9.1.3, not 10.9.0.3")
	s.looksUntil("another mon is there", func() bool { return s.quorate() == "abd of abd" })
	s.converge()
	require.Equal(t, at(append(nodes("node1", "node2"), "10.9.1.3")...), s.monHosts())
	after := s.generations()
	for _, name := range []string{"mon-a", "mon-b", "osd-0", "osd-1", "osd-2"} {
		require.Equal(t, before[name], after[name], "%s does not restart", name)
	}
	s.rests()
}

// beginHostFailover has another node with another address take the place of a lost mon.
func beginHostFailover(t *testing.T) (*site, func()) {
	s, act := beginFailoverOf(t, onHost)
	return s, func() {
		act()
		require.Equal(t, at(nodes("node1", "node2", "node4")...), s.monHosts())
	}
}
