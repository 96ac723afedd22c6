package v1alpha1

// SecuritySpec is who may enter the cluster, and with what.
type SecuritySpec struct {
	// CephX are the keys by which daemons and clients prove who they are.
	// +kubebuilder:default={}
	CephX CephXSpec `json:"cephx,omitempty"`
}

// CephXSpec says when keys are made anew.
type CephXSpec struct {
	// Daemons are the keys of the mgrs, the OSDs and of Cairn's own operator (client.admin). Each mgr and OSD restarts once
	// for its new key, as for a changed option.
	// +kubebuilder:default={}
	Daemons KeySpec `json:"daemons,omitempty"`
	// CSI are the keys of the CSI driver: one of its controller, and one of each node. Mounted volumes stay mounted.
	// +kubebuilder:default={}
	CSI KeySpec `json:"csi,omitempty"`
}

// KeySpec says of which generation keys are.
type KeySpec struct {
	// KeyGeneration is that of the keys. A higher number than before makes all of them anew, once; it cannot be lowered.
	// +kubebuilder:default=1
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=1000000
	// +kubebuilder:validation:XValidation:rule="self >= oldSelf",message="keyGeneration: cannot be lowered: the keys of earlier generations are refused by Ceph, and gone"
	KeyGeneration int64 `json:"keyGeneration,omitempty"`
}

// CephXStatus says of which generation the keys are.
type CephXStatus struct {
	// Daemons are the keys of the mgrs, the OSDs and client.admin.
	// +optional
	Daemons KeyStatus `json:"daemons,omitempty"`
	// CSI are the keys of the CSI driver.
	// +optional
	CSI KeyStatus `json:"csi,omitempty"`
}

// KeyStatus says of which generation some keys are.
type KeyStatus struct {
	// KeyGeneration that all of them have: Ceph refuses the keys of earlier ones.
	// +optional
	KeyGeneration int64 `json:"keyGeneration,omitempty"`
	// Waiting says who has no key of the generation that the spec asks for yet, or still uses an earlier one.
	// +optional
	// +listType=atomic
	Waiting []string `json:"waiting,omitempty"`
}
