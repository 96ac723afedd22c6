// Package csidriver runs Cairn's own CSI driver: its controller, its node
// plugin, and the two processes on each node that attached volumes go through.
package csidriver

import "fmt"

// BlockDriver is the name of the CSI driver for block volumes.
const BlockDriver = "block.csi.cairn.storage"

// TopologyPrefix begins the labels by which kubelet says where a node is to the driver.
const TopologyPrefix = "topology." + BlockDriver + "/"

// Component is the label of everything that belongs to the CSI driver.
const Component = "csi"

// The workloads and their ServiceAccounts.
const (
	ControllerName = "cairn-csi-controller"
	NodeName       = "cairn-csi-node"
	AttachName     = "cairn-csi-attach"
	KeeperName     = "cairn-csi-keeper"
)

// ControllerSecret is the Secret that the controller reads for a cluster.
func ControllerSecret(fsid string) string { return "csi-controller-" + fsid }

// NodeSecret is the Secret that one node's plugin reads for a cluster.
func NodeSecret(fsid, node string) string { return fmt.Sprintf("csi-node-%s-%s", fsid, node) }
