package lab

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io/fs"
	"net"
	"net/netip"
	"os"
	"path/filepath"
	"strings"

	"golang.org/x/sys/unix"
)

// checkAddresses refuses a machine whose own networks the lab would hide.
func checkAddresses() error {
	interfaces, err := net.InterfaceAddrs()
	if err != nil {
		return fmt.Errorf("list the machine's addresses: %w", err)
	}
	var own []netip.Prefix
	for _, address := range interfaces {
		if prefix, err := netip.ParsePrefix(address.String()); err == nil {
			own = append(own, prefix.Masked())
		}
	}
	if prefix, found := collision(own); found {
		return fmt.Errorf("the machine's network %s overlaps the lab's (%s, %s, %s)", prefix, nodeNetwork, podNetwork, serviceNetwork)
	}
	return nil
}

// makeBridge joins host and nodes, and routes the host to pods and services.
func makeBridge(ctx context.Context, nodes int) error {
	steps := [][]string{
		{"link", "add", bridgeName, "type", "bridge", "forward_delay", "0"},
		{"addr", "add", netip.PrefixFrom(hostAddress, nodeNetwork.Bits()).String(), "dev", bridgeName},
		{"link", "set", bridgeName, "up"},
		// Service addresses are rewritten before they leave the host; the
		// route only gives such packets the bridge's source address.
		{"route", "add", serviceNetwork.String(), "dev", bridgeName, "src", hostAddress.String()},
	}
	for index := 1; index <= nodes; index++ {
		steps = append(steps, []string{"route", "add", podCIDR(index).String(), "via", nodeAddress(index).String(), "dev", bridgeName})
	}
	return ip(ctx, steps...)
}

// plugIn gives a node a new network namespace, with a cable to the bridge.
func (n *Node) plugIn(ctx context.Context, nodes int) error {
	space, veth := netnsName(n.index), vethName(n.index)
	if err := ip(ctx,
		[]string{"netns", "add", space},
		[]string{"link", "add", veth, "type", "veth", "peer", "name", "eth0", "netns", space},
		[]string{"link", "set", veth, "master", bridgeName, "up"},
	); err != nil {
		return err
	}
	inside := [][]string{
		{"link", "set", "lo", "up"},
		{"addr", "add", netip.PrefixFrom(nodeAddress(n.index), nodeNetwork.Bits()).String(), "dev", "eth0"},
		{"link", "set", "eth0", "up"},
		{"route", "add", "default", "via", hostAddress.String()},
	}
	for other := 1; other <= nodes; other++ {
		if other != n.index {
			inside = append(inside, []string{"route", "add", podCIDR(other).String(), "via", nodeAddress(other).String()})
		}
	}
	for i, args := range inside {
		inside[i] = append([]string{"-n", space}, args...)
	}
	if err := ip(ctx, inside...); err != nil {
		return err
	}
	_, err := run(ctx, "nsenter", "--net=/run/netns/"+space, "sysctl", "-qw",
		"net.ipv4.ip_forward=1", "net.bridge.bridge-nf-call-iptables=1", "net.ipv4.conf.all.rp_filter=0")
	return err
}

// unplug removes a node's network namespace and its cable.
func (n *Node) unplug(ctx context.Context) error {
	var errs []error
	if linkExists(vethName(n.index)) {
		errs = append(errs, ip(ctx, []string{"link", "del", vethName(n.index)}))
	}
	if _, err := os.Lstat(filepath.Join("/run/netns", netnsName(n.index))); err == nil {
		errs = append(errs, ip(ctx, []string{"netns", "del", netnsName(n.index)}))
	}
	return errors.Join(errs...)
}

// Cut takes the node off the network: its processes go on, unreachable.
func (n *Node) Cut(ctx context.Context) error {
	return ip(ctx, []string{"link", "set", vethName(n.index), "down"})
}

// Heal undoes Cut.
func (n *Node) Heal(ctx context.Context) error {
	return ip(ctx, []string{"link", "set", vethName(n.index), "up"})
}

func (n *Node) isCut() bool {
	link, err := net.InterfaceByName(vethName(n.index))
	return err == nil && link.Flags&net.FlagUp == 0
}

// removeNetwork removes whatever there is of the lab's network.
func removeNetwork(ctx context.Context) error {
	var errs []error
	for index := 1; index <= maxNodes; index++ {
		errs = append(errs, nodeAt(index).unplug(ctx))
	}
	if linkExists(bridgeName) {
		errs = append(errs, ip(ctx, []string{"link", "del", bridgeName})) // its routes go with it
	}
	errs = append(errs, removeHostTables(ctx), removeNetnsDir())
	return errors.Join(errs...)
}

// removeNetnsDir removes the directory of network namespaces, which ip(8) mounts
// over itself, unless there are others than the lab's.
func removeNetnsDir() error {
	const dir = "/run/netns"
	entries, err := os.ReadDir(dir)
	if err != nil || len(entries) > 0 {
		return nil
	}
	for {
		err := unix.Unmount(dir, unix.UMOUNT_NOFOLLOW)
		if errors.Is(err, unix.EINVAL) {
			break // not a mount, or not any more
		}
		if err != nil {
			return fmt.Errorf("unmount %s: %w", dir, err)
		}
	}
	if err := os.Remove(dir); err != nil {
		return fmt.Errorf("remove %s: %w", dir, err)
	}
	return nil
}

// removeHostTables removes the host's service routing, which no other program
// than the lab's makes on this machine: the tables are only touched when the lab
// noted that they were not there before.
func removeHostTables(ctx context.Context) error {
	if _, err := os.Stat(hostProxyNote()); errors.Is(err, fs.ErrNotExist) {
		return nil
	}
	families, err := kubeProxyTables(ctx)
	if err != nil {
		return err
	}
	for _, family := range families {
		if _, err := run(ctx, "nft", "delete", "table", family, "kube-proxy"); err != nil {
			return err
		}
	}
	return os.Remove(hostProxyNote())
}

// kubeProxyTables lists the address families in which kube-proxy has a table here.
func kubeProxyTables(ctx context.Context) ([]string, error) {
	out, err := run(ctx, "nft", "-j", "list", "tables")
	if err != nil {
		return nil, err
	}
	var listing struct {
		NFTables []struct {
			Table *struct{ Family, Name string }
		}
	}
	if err := json.Unmarshal([]byte(out), &listing); err != nil {
		return nil, fmt.Errorf("decode the list of nft tables: %w", err)
	}
	var families []string
	for _, entry := range listing.NFTables {
		if entry.Table != nil && entry.Table.Name == "kube-proxy" {
			families = append(families, entry.Table.Family)
		}
	}
	return families, nil
}

func linkExists(name string) bool {
	_, err := net.InterfaceByName(name)
	return err == nil
}

// ip runs several commands of ip(8).
func ip(ctx context.Context, commands ...[]string) error {
	for _, args := range commands {
		if _, err := run(ctx, "ip", args...); err != nil {
			return fmt.Errorf("network: ip %s: %w", strings.Join(args, " "), err)
		}
	}
	return nil
}
