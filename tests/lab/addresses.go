package lab

import (
	"fmt"
	"net/netip"
)

// The lab's addresses: a bridge with the host and the nodes on it, a network of
// pods for each node, and the services.
var (
	nodeNetwork    = netip.MustParsePrefix("10.201.0.0/24")
	podNetwork     = netip.MustParsePrefix("10.202.0.0/16")
	serviceNetwork = netip.MustParsePrefix("10.203.0.0/16")

	hostAddress       = netip.MustParseAddr("10.201.0.1")
	kubernetesService = netip.MustParseAddr("10.203.0.1")
)

const (
	bridgeName = "cairn0"
	apiPort    = 6443
)

func apiServerURL() string { return fmt.Sprintf("https://%s:%d", hostAddress, apiPort) }

// nodeAddress is 10.201.0.11 for the first node.
func nodeAddress(index int) netip.Addr {
	base := nodeNetwork.Addr().As4()
	base[3] = byte(10 + index)
	return netip.AddrFrom4(base)
}

// podCIDR is 10.202.1.0/24 for the first node.
func podCIDR(index int) netip.Prefix {
	base := podNetwork.Addr().As4()
	base[2] = byte(index)
	return netip.PrefixFrom(netip.AddrFrom4(base), 24)
}

// vethName is the host's end of a node's cable.
func vethName(index int) string { return fmt.Sprintf("cairn-n%d", index) }

// netnsName is the node's network namespace.
func netnsName(index int) string { return fmt.Sprintf("cairn-node%d", index) }

// collision finds the first of the machine's own networks that the lab would hide.
func collision(own []netip.Prefix) (netip.Prefix, bool) {
	for _, prefix := range own {
		if prefix.Bits() == 0 {
			continue // the default route covers everything
		}
		for _, ours := range []netip.Prefix{nodeNetwork, podNetwork, serviceNetwork} {
			if prefix.Overlaps(ours) {
				return prefix, true
			}
		}
	}
	return netip.Prefix{}, false
}
