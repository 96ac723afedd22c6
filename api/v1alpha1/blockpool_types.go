package v1alpha1

import (
	"fmt"

	corev1 "k8s.io/api/core/v1"
	storagev1 "k8s.io/api/storage/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// BlockPool is a Ceph pool for block volumes, and the StorageClass that makes volumes in it.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:categories=cairn
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Cluster",type=string,JSONPath=`.spec.cluster`
// +kubebuilder:printcolumn:name="Redundancy",type=string,JSONPath=`.status.redundancy`
// +kubebuilder:printcolumn:name="Domain",type=string,JSONPath=`.spec.failureDomain`
// +kubebuilder:printcolumn:name="StorageClass",type=string,JSONPath=`.status.storageClass`
// +kubebuilder:printcolumn:name="Stored",type=string,JSONPath=`.status.stored`
// +kubebuilder:printcolumn:name="Available",type=string,JSONPath=`.status.available`
// +kubebuilder:printcolumn:name="Doing",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z0-9]([a-z0-9-]*[a-z0-9])?$') && size(self.metadata.name) <= 63",message="metadata.name: lower-case letters, digits and -, at most 63 characters: it is the name of the pool in Ceph"
type BlockPool struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec BlockPoolSpec `json:"spec"`
	// +optional
	Status BlockPoolStatus `json:"status,omitempty"`
}

// BlockPoolList is a list of BlockPool.
//
// +kubebuilder:object:root=true
type BlockPoolList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []BlockPool `json:"items"`
}

// BlockPoolSpec is what the pool should be.
//
// +kubebuilder:validation:XValidation:rule="!has(self.erasureCoded) || !has(self.replicas)",message="spec.erasureCoded: a pool has either erasureCoded or replicas, not both"
// +kubebuilder:validation:XValidation:rule="has(self.erasureCoded) == has(oldSelf.erasureCoded)",message="spec.erasureCoded: Ceph cannot change a pool between replicas and erasure coding; make another pool and move the volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.erasureCoded) || (has(self.failureDomain) ? self.failureDomain : 'host') == (has(oldSelf.failureDomain) ? oldSelf.failureDomain : 'host')",message="spec.failureDomain: cannot be changed in an erasure-coded pool; make another pool and move the volumes"
// +kubebuilder:validation:XValidation:rule="!has(self.erasureCoded) || (has(self.deviceClass) == has(oldSelf.deviceClass) && (!has(self.deviceClass) || self.deviceClass == oldSelf.deviceClass))",message="spec.deviceClass: cannot be changed in an erasure-coded pool; make another pool and move the volumes"
type BlockPoolSpec struct {
	// Cluster is the name of the StorageCluster in the same namespace. It cannot be changed.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=40
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.cluster: cannot be changed; make a pool in the other cluster and move the volumes"
	Cluster string `json:"cluster"`
	// Replicas of each object: 3 when neither they nor erasureCoded are given. Two survive one
	// failure but not a second during the repair.
	// +optional
	// +kubebuilder:validation:Maximum=10
	// +kubebuilder:validation:XValidation:rule="self >= 2",message="spec.replicas: must be at least 2: with one replica the first failed disk loses data"
	Replicas int32 `json:"replicas,omitempty"`
	// ErasureCoded cuts each object into chunks, in place of replicas: it takes less of the disks,
	// and more work for each write. It cannot be changed.
	// +optional
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.erasureCoded: Ceph cannot change the chunks of a pool; make another pool and move the volumes"
	ErasureCoded *ErasureCoding `json:"erasureCoded,omitempty"`
	// FailureDomain is what may fail without loss: no two replicas or chunks of an object share one.
	// +kubebuilder:default=host
	// +kubebuilder:validation:Enum=osd;host;rack;zone;region
	FailureDomain string `json:"failureDomain,omitempty"`
	// DeviceClass limits the pool to OSDs of one class.
	// +optional
	DeviceClass DeviceClass `json:"deviceClass,omitempty"`
	// Quota limits the bytes stored, before replication or coding.
	// +optional
	// +kubebuilder:validation:XValidation:rule="quantity(string(self)).isGreaterThan(quantity('0'))",message="spec.quota: must be more than 0, such as 500Gi; leave it out for no limit"
	Quota *resource.Quantity `json:"quota,omitempty"`
	// Compression of what is written from now on: none, passive (when a client hints at it), aggressive (unless a client
	// hints against it) or force.
	// +kubebuilder:default=none
	// +kubebuilder:validation:Enum=none;passive;aggressive;force
	Compression string `json:"compression,omitempty"`
	// StorageClass that is made for the pool. Without it the pool has none.
	// +optional
	StorageClass *StorageClassSpec `json:"storageClass,omitempty"`
}

// ErasureCoding is into how many chunks an object is cut. Each lies in a failure domain of its own.
type ErasureCoding struct {
	// DataChunks hold the object.
	// +kubebuilder:validation:Maximum=16
	// +kubebuilder:validation:XValidation:rule="self >= 2",message="spec.erasureCoded.dataChunks: must be at least 2; for a whole copy of each object take replicas"
	DataChunks int32 `json:"dataChunks"`
	// CodingChunks are computed from them: as many of all chunks may be lost. With one, the pool
	// goes on without it, and loses data with the next.
	// +kubebuilder:validation:Maximum=8
	// +kubebuilder:validation:XValidation:rule="self >= 1",message="spec.erasureCoded.codingChunks: must be at least 1: without one the first failed disk loses data"
	CodingChunks int32 `json:"codingChunks"`
}

// DefaultReplicas of a pool whose spec does not say how it keeps its data.
const DefaultReplicas = 3

// Copies is how many OSDs hold a part of each object: replicas, or all chunks.
func (s *BlockPoolSpec) Copies() int {
	switch {
	case s.ErasureCoded != nil:
		return int(s.ErasureCoded.DataChunks + s.ErasureCoded.CodingChunks)
	case s.Replicas == 0:
		return DefaultReplicas
	}
	return int(s.Replicas)
}

// Redundancy is how a pool keeps its data, for people: "3 replicas", "2+1 chunks".
func (s *BlockPoolSpec) Redundancy() string {
	if s.ErasureCoded != nil {
		return fmt.Sprintf("%d+%d chunks", s.ErasureCoded.DataChunks, s.ErasureCoded.CodingChunks)
	}
	return fmt.Sprintf("%d replicas", s.Copies())
}

// Domain is a region, a zone or a host, as the label of a node names it.
//
// +kubebuilder:validation:MaxLength=63
// +kubebuilder:validation:Pattern=`^[A-Za-z0-9]([A-Za-z0-9._-]*[A-Za-z0-9])?$`
type Domain string

// StorageClassSpec is the StorageClass of a pool, and its VolumeSnapshotClass and
// VolumeGroupSnapshotClass where Kubernetes has those.
//
// +kubebuilder:validation:XValidation:rule="(has(self.name) && size(self.name) > 0) == (has(oldSelf.name) && size(oldSelf.name) > 0)",message="spec.storageClass.name: cannot be changed while claims may name it; make another pool or StorageClass"
type StorageClassSpec struct {
	// Name of them all; the pool's name when empty. It cannot be changed.
	// +optional
	// +kubebuilder:validation:MaxLength=63
	// +kubebuilder:validation:XValidation:rule="self.matches('^([a-z0-9]([a-z0-9.-]*[a-z0-9])?)?$')",message="spec.storageClass.name: lower-case letters, digits, - and ."
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.storageClass.name: cannot be changed while claims may name it; make another pool or StorageClass"
	Name string `json:"name,omitempty"`
	// Default makes it the cluster's default StorageClass.
	// +optional
	Default bool `json:"default,omitempty"`
	// ReclaimPolicy of the volumes.
	// +kubebuilder:default=Delete
	// +kubebuilder:validation:Enum=Delete;Retain
	ReclaimPolicy corev1.PersistentVolumeReclaimPolicy `json:"reclaimPolicy,omitempty"`
	// FSType of volumes that hold a filesystem.
	// +kubebuilder:default=ext4
	// +kubebuilder:validation:Enum=ext4;xfs
	FSType string `json:"fsType,omitempty"`
	// MountOptions of volumes that hold a filesystem.
	// +optional
	// +listType=atomic
	// +kubebuilder:validation:MaxItems=32
	MountOptions []string `json:"mountOptions,omitempty"`
	// Topology limits the volumes to the nodes of a region, zone or host: where the
	// pool's OSDs are. Nodes say where they are by their labels
	// topology.kubernetes.io/region, topology.kubernetes.io/zone and kubernetes.io/hostname.
	// +optional
	// +kubebuilder:validation:MaxProperties=3
	// +kubebuilder:validation:XValidation:rule="self.all(k, k in ['region', 'zone', 'host'])",message="spec.storageClass.topology: the keys are region, zone and host"
	Topology map[string]Domain `json:"topology,omitempty"`
	// VolumeBindingMode says when a claim gets its volume: at once, or when its first
	// pod has a node, which is chosen by where there is room. Empty is Immediate, and
	// WaitForFirstConsumer with a topology.
	// +optional
	// +kubebuilder:validation:Enum=Immediate;WaitForFirstConsumer
	VolumeBindingMode storagev1.VolumeBindingMode `json:"volumeBindingMode,omitempty"`
	// Parameters of the driver beyond those that Cairn sets itself: imageFeatures, readAffinity.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(p, p in ['imageFeatures', 'readAffinity'])",message="spec.storageClass.parameters: the driver knows imageFeatures and readAffinity; clusterID, pool and fsType are set by Cairn"
	Parameters map[string]string `json:"parameters,omitempty"`
}

// BlockPoolStatus is what the pool is.
type BlockPoolStatus struct {
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// Plan is the work that is left while some of it waits for approval.
	// +optional
	// +listType=atomic
	Plan []PlanStep `json:"plan,omitempty"`
	// PoolID is Ceph's number of the pool.
	// +optional
	PoolID int64 `json:"poolID,omitempty"`
	// Redundancy is how the pool keeps its data: "3 replicas", "2+1 chunks".
	// +optional
	Redundancy string `json:"redundancy,omitempty"`
	// StorageClass that makes volumes in the pool.
	// +optional
	StorageClass string `json:"storageClass,omitempty"`
	// Stored bytes, before replication or coding.
	// +optional
	Stored *resource.Quantity `json:"stored,omitempty"`
	// Available bytes, after replication or coding: what can still be stored.
	// +optional
	Available *resource.Quantity `json:"available,omitempty"`
}
