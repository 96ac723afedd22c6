package v1alpha1

import (
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// NodeStorage is what a node has: its devices, each with whether Cairn may use it or why not, and the ways
// in which the node can attach a volume. The agent on the node writes it; it bears the node's name.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:scope=Cluster,categories=cairn
// +kubebuilder:printcolumn:name="Usable",type=integer,JSONPath=`.status.summary.usable`
// +kubebuilder:printcolumn:name="OSDs",type=integer,JSONPath=`.status.summary.osds`
// +kubebuilder:printcolumn:name="Refused",type=integer,JSONPath=`.status.summary.refused`
// +kubebuilder:printcolumn:name="Attach",type=string,JSONPath=`.status.summary.attach`
// +kubebuilder:printcolumn:name="Devices",type=string,JSONPath=`.status.summary.devices`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
type NodeStorage struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	// +optional
	Status NodeStorageStatus `json:"status,omitempty"`
}

// NodeStorageList is a list of NodeStorage.
//
// +kubebuilder:object:root=true
type NodeStorageList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []NodeStorage `json:"items"`
}

// NodeStorageStatus is what the agent saw.
type NodeStorageStatus struct {
	// Summary for a quick look.
	// +optional
	Summary NodeSummary `json:"summary,omitempty"`
	// Devices of the node, by kernel name.
	// +optional
	// +listType=map
	// +listMapKey=name
	Devices []Device `json:"devices,omitempty"`
	// AttachMethods are the ways to attach a volume, best first.
	// +optional
	// +listType=map
	// +listMapKey=name
	AttachMethods []AttachMethod `json:"attachMethods,omitempty"`
	// Encryption says whether the node can encrypt devices (dm-crypt).
	// +optional
	Encryption *NodeEncryption `json:"encryption,omitempty"`
}

// NodeEncryption is whether a node can encrypt devices.
type NodeEncryption struct {
	Available bool `json:"available"`
	// Message says why not.
	// +optional
	Message string `json:"message,omitempty"`
}

// NodeSummary counts the devices.
type NodeSummary struct {
	Usable  int32 `json:"usable"`
	OSDs    int32 `json:"osds"`
	Refused int32 `json:"refused"`
	// Attach is the method that the node uses.
	// +optional
	Attach string `json:"attach,omitempty"`
	// Devices is a line: "disk1 10Gi usable; disk2 10Gi osd.3".
	// +optional
	Devices string `json:"devices,omitempty"`
}

// Device is one block device.
type Device struct {
	// Name in the kernel, such as sdb. It may change at the next boot.
	Name string `json:"name"`
	// ID is the stable name below /dev/disk/by-id, for spec.storage.nodes.devices.name.
	// +optional
	ID string `json:"id,omitempty"`
	// Links are all its names below /dev/disk.
	// +optional
	// +listType=atomic
	Links []string `json:"links,omitempty"`
	// Size of the device.
	Size resource.Quantity `json:"size"`
	// Rotational is true for disks that turn.
	// +optional
	Rotational bool `json:"rotational,omitempty"`
	// +optional
	Model string `json:"model,omitempty"`
	// +optional
	Serial string `json:"serial,omitempty"`
	// Usable devices may become OSDs.
	Usable bool `json:"usable"`
	// Reason why it is not usable.
	// +optional
	Reason string `json:"reason,omitempty"`
	// Message says what was found and what to do.
	// +optional
	Message string `json:"message,omitempty"`
	// OSD that lives on the device.
	// +optional
	OSD *DeviceOSD `json:"osd,omitempty"`
	// DBOf is the UUID of the OSD whose database is on the device.
	// +optional
	DBOf string `json:"dbOf,omitempty"`
}

// DeviceOSD is the OSD that a device's label names.
type DeviceOSD struct {
	// ID of the OSD; -1 while the OSD is being made.
	ID int32 `json:"id"`
	// UUID of the OSD.
	UUID string `json:"uuid"`
	// FSID of its cluster.
	FSID string `json:"fsid"`
	// Encrypted is true of an OSD whose device is encrypted.
	// +optional
	Encrypted bool `json:"encrypted,omitempty"`
}

// AttachMethod is a way to attach a volume.
type AttachMethod struct {
	// Name is krbd or fuse.
	Name string `json:"name"`
	// Available on this node.
	Available bool `json:"available"`
	// Message says why not.
	// +optional
	Message string `json:"message,omitempty"`
}
