// Package mon makes the monitors: who they are, where they run, and the
// Kubernetes objects that run them.
package mon

import (
	"cmp"
	"fmt"
	"slices"
	"strconv"
	"strings"
	"time"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/operator/kube"
)

// The ports of the messenger, version 2 and version 1.
const (
	PortV2 = 3300
	PortV1 = 6789
)

// Component is the label of everything that belongs to a mon.
const Component = "mon"

// Mon is one monitor. Its Service is the durable record of all of this: it is
// made before the mon is, and a mon is never moved under the same name.
type Mon struct {
	Name string // a, b, c …
	Node string
	// Address is the mon's own, stable through restarts: its Service's in the
	// pod network; in the host network that which its node had when it was made.
	// Empty until it is known.
	Address string
	// Founders are the mons whose map this mon's store is made with: all of the
	// first mons, itself among them, or those that a later mon joins.
	Founders []string
	// MissingSince is since when it is out of quorum; zero while it is not.
	MissingSince time.Time
	// Joined is true once it was seen in quorum: its store knows what the others
	// know, and it never begins anew under this name.
	Joined bool
	// Apart is its run of which was seen that it gives client IDs that no mon gave before it began.
	Apart Apart
}

// Apart is a run of a mon, and an ID that it gave in it.
type Apart struct {
	Run string
	ID  uint64
}

// ObjectName of a mon's Service and Deployment.
func ObjectName(cluster *v1alpha1.StorageCluster, name string) string {
	return fmt.Sprintf("%s-mon-%s", cluster.Name, name)
}

// Endpoint is a mon's address as a monmap has it.
func (m Mon) Endpoint() string {
	host := m.Address
	if strings.Contains(host, ":") {
		host = "[" + host + "]"
	}
	return fmt.Sprintf("[v2:%s:%d,v1:%s:%d]", host, PortV2, host, PortV1)
}

// endpointV2 is a mon's address for clients that speak version 2 alone.
func (m Mon) endpointV2() string {
	both, _, _ := strings.Cut(m.Endpoint(), ",")
	return both + "]"
}

// Host is the option mon_host for a set of mons.
func Host(mons []Mon) string { return host(mons, Mon.Endpoint) }

// HostV2 is the option mon_host for clients that speak version 2 of the messenger alone.
func HostV2(mons []Mon) string { return host(mons, Mon.endpointV2) }

func host(mons []Mon, endpoint func(Mon) string) string {
	var endpoints []string
	for _, m := range mons {
		if m.Address != "" {
			endpoints = append(endpoints, endpoint(m))
		}
	}
	return strings.Join(endpoints, ",")
}

// Observed reads the mons from their Services.
func Observed(services []corev1.Service, hostAddress func(node string) string) []Mon {
	var mons []Mon
	for _, service := range services {
		m := Mon{
			Name: service.Labels[kube.LabelInstance], Node: service.Annotations[kube.AnnotationNode],
			Address: service.Spec.ClusterIP, Founders: strings.Split(service.Annotations[kube.AnnotationMembers], ","),
		}
		// What cannot be read counts as never seen: the time begins anew.
		m.MissingSince, _ = time.Parse(time.RFC3339, service.Annotations[kube.AnnotationMissing])
		m.Joined = service.Annotations[kube.AnnotationJoined] == "true"
		m.Apart = parseApart(service.Annotations[kube.AnnotationApart])
		if m.Address == corev1.ClusterIPNone {
			m.Address = cmp.Or(service.Annotations[kube.AnnotationAddress], hostAddress(m.Node))
		}
		mons = append(mons, m)
	}
	slices.SortFunc(mons, func(a, b Mon) int { return strings.Compare(a.Name, b.Name) })
	return mons
}

// parseApart reads ID@RUN. What cannot be read counts as never seen.
func parseApart(text string) Apart {
	id, run, _ := strings.Cut(text, "@")
	number, err := strconv.ParseUint(id, 10, 64)
	if err != nil || run == "" {
		return Apart{}
	}
	return Apart{Run: run, ID: number}
}

// Assign returns the mons that there should be: those that are, and as many new
// ones as are missing, each on the node that has the fewest, in the zone that
// has the fewest. It returns fewer than count when the nodes do not suffice. New
// names come after the last one that was ever given: the stores of mons that are
// no more may lie on the nodes.
func Assign(have []Mon, nodes []corev1.Node, count int, shared bool, last string) []Mon {
	mons := slices.Clone(have)
	founding := len(have) == 0
	last = Last(mons, last)
	for len(mons) < count {
		node := leastUsed(mons, nodes, shared)
		if node == "" {
			break
		}
		last = nextName(last)
		mons = append(mons, Mon{Name: last, Node: node})
	}
	members := names(have)
	if founding {
		members = names(mons)
	}
	for i := len(have); i < len(mons); i++ {
		mons[i].Founders = members
		if first := firstOf(have, mons[i].Name); first != nil {
			mons[i].Founders = first
		}
	}
	return mons
}

// firstOf are the first mons when a new one is of them, and those that there are still
// wait for it: the first were not all made at once. Else nil.
func firstOf(have []Mon, name string) []string {
	if slices.ContainsFunc(have, func(m Mon) bool { return m.Joined }) {
		return nil
	}
	for _, m := range have {
		if slices.Contains(m.Founders, name) {
			return m.Founders
		}
	}
	return nil
}

func leastUsed(mons []Mon, nodes []corev1.Node, shared bool) string {
	perNode, perZone, zoneOf := map[string]int{}, map[string]int{}, map[string]string{}
	for _, node := range nodes {
		zoneOf[node.Name] = node.Labels[corev1.LabelTopologyZone]
	}
	for _, m := range mons {
		perNode[m.Node]++
		perZone[zoneOf[m.Node]]++
	}
	candidates := make([]string, 0, len(nodes))
	for _, node := range nodes {
		if shared || perNode[node.Name] == 0 {
			candidates = append(candidates, node.Name)
		}
	}
	if len(candidates) == 0 {
		return ""
	}
	return slices.MinFunc(candidates, func(a, b string) int {
		if d := perZone[zoneOf[a]] - perZone[zoneOf[b]]; d != 0 {
			return d
		}
		if d := perNode[a] - perNode[b]; d != 0 {
			return d
		}
		return strings.Compare(a, b)
	})
}

// Last is the latest of the mons' names and another one.
func Last(mons []Mon, other string) string {
	return slices.MaxFunc(append(names(mons), other), CompareNames)
}

// CompareNames orders names as they are given: a to z, then aa.
func CompareNames(a, b string) int {
	return cmp.Or(cmp.Compare(len(a), len(b)), strings.Compare(a, b))
}

func nextName(last string) string {
	if last == "" {
		return "a"
	}
	head, tail := last[:len(last)-1], last[len(last)-1]
	if tail < 'z' {
		return head + string(tail+1)
	}
	return nextName(head) + "a"
}

func names(mons []Mon) []string {
	out := make([]string, 0, len(mons))
	for _, m := range mons {
		out = append(out, m.Name)
	}
	return out
}
