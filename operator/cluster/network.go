package cluster

import (
	"fmt"
	"maps"
	"slices"
	"strings"

	corev1 "k8s.io/api/core/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/csidriver"
)

// Daemons and clients agree on how they send when they connect. Unless told otherwise
// each takes both what is encrypted and what is not, so one that has restarted to take
// encrypted connections alone is reached by all others, and those that have not restarted
// reach it: daemons restart one after the other, in any order, both when encryption begins
// and when it ends. What is connected goes on as it is until one of the two restarts.
//
// Left out are clients of the messenger's version 1, which knows no encryption. Nothing
// begins while one is connected.

// connectionModes are the options that say how daemons and clients may send.
var connectionModes = []string{"ms_cluster_mode", "ms_service_mode", "ms_client_mode", "ms_mon_cluster_mode", "ms_mon_service_mode", "ms_mon_client_mode"}

// network are the lines of ceph.conf for spec.network.
func (c *options) network() map[string]v1alpha1.ConfigSection {
	var lines map[string]v1alpha1.ConfigSection
	if c.Encrypted {
		for _, name := range connectionModes {
			add(&lines, "global", name, "secure")
		}
		add(&lines, "global", "ms_bind_msgr1", "false") // mons have it in their address
	}
	if c.Compressed {
		add(&lines, "osd", "ms_osd_compress_mode", "force")
	}
	return lines
}

// ofNetwork are the parts of spec.network that a kind of daemon reads when it starts.
func (c *options) ofNetwork(kind string) (lines []string) {
	if c.Encrypted {
		lines = append(lines, "spec.network.encryption=true")
	}
	if c.Compressed && kind == "osd" {
		lines = append(lines, "spec.network.compression=true")
	}
	return lines
}

// inForce are the options that daemons have when they start now.
func (d *Desired) inForce(o *Observed) *options {
	if record := o.recorded(); record != nil {
		return record
	}
	return d.Options
}

// desireNetwork says how daemons and clients should send, once nothing is cut off by it.
func (d *Desired) desireNetwork(o *Observed, live *options) {
	spec, was := o.Cluster.Spec.Network, live != nil && live.Encrypted
	d.Options.Encrypted, d.Options.Compressed = spec.Encryption, spec.Compression
	if spec.Encryption == was {
		return
	}
	if d.NetworkGate, d.NetworkReason = o.networkGate(); d.NetworkGate != "" {
		d.Options.Encrypted, d.Options.Compressed = was, live != nil && live.Compressed
	}
}

// encryptionChanges reports whether encryption is to begin or to end.
func (o *Observed) encryptionChanges() bool {
	record := o.recorded()
	return o.Cluster.Spec.Network.Encryption != (record != nil && record.Encrypted)
}

// networkChanges reports whether daemons are to have another part of spec.network.
func (o *Observed) networkChanges() bool {
	record := o.recorded()
	return o.encryptionChanges() || o.Cluster.Spec.Network.Compression != (record != nil && record.Compressed)
}

// networkGate says who would be cut off when encryption begins or ends, and the reason
// of the blocker that this is.
func (o *Observed) networkGate() (gate, reason string) {
	if o.Ceph == nil {
		return "", ""
	}
	for _, key := range slices.SortedFunc(maps.Keys(o.Ceph.Config), func(a, b ceph.Setting) int { return strings.Compare(a.Who+a.Option, b.Who+b.Option) }) {
		if value := o.Ceph.Config[key]; slices.Contains(connectionModes, key.Option) && !strings.Contains(value, "secure") {
			return fmt.Sprintf("%s of %s, which was set by hand to %q, is gone: ceph config rm %s %s", key.Option, key.Who, value, key.Who, key.Option), ""
		}
	}
	if !o.Cluster.Spec.Network.Encryption {
		return "", ""
	}
	if slices.ContainsFunc(o.Pools, func(p v1alpha1.BlockPool) bool { return p.DeletionTimestamp == nil }) { // who writes these Secrets
		for i := range o.Nodes {
			name := csidriver.NodeSecret(o.Keys.FSID, o.Nodes[i].Name)
			if secret := o.Secrets[name]; secret != nil && strings.Contains(string(secret.Data["monHost"]), "v1:") {
				return fmt.Sprintf("Secret %s names the mons by version 2 of the messenger alone", name), ""
			}
		}
	}
	if o.Ceph.OldClientsError != nil {
		return fmt.Sprintf("the mons say which clients are connected: %v", o.Ceph.OldClientsError), ""
	}
	if len(o.Ceph.OldClients) == 0 {
		return "", ""
	}
	var who []string
	for _, c := range o.Ceph.OldClients {
		who = append(who, c.User+" "+o.placeOf(c.Address))
	}
	return fmt.Sprintf("no client is connected by version 1 of the messenger, which knows no encryption: %s. Volumes that the kernel has mapped so are mapped by version 2 "+
		"when the pods that use them are started anew (on Linux 5.11 or later)", strings.Join(who, ", ")), v1alpha1.ReasonOldClients
}

// placeOf an address is its node, if it is a node's.
func (o *Observed) placeOf(address string) string {
	for i := range o.Nodes {
		if slices.ContainsFunc(o.Nodes[i].Status.Addresses, func(a corev1.NodeAddress) bool { return a.Address == address }) {
			return "on node " + o.Nodes[i].Name
		}
	}
	return "at " + address
}

// network waits until nobody is cut off.
func (p *planner) network() error {
	if p.d.NetworkGate == "" {
		return nil
	}
	what, why := "encrypt what daemons and clients send each other", "spec.network.encryption asks for it"
	if !p.o.Cluster.Spec.Network.Encryption {
		what, why = "end the encryption of what daemons and clients send each other", "spec.network.encryption does not ask for it any more"
	}
	s := step("network", what, why, p.d.NetworkGate)
	s.Reason, s.Risk = p.d.NetworkReason, v1alpha1.RiskNone // daemons that restart have steps of their own
	p.add(s)
	return nil
}
