package v1alpha1

import (
	corev1 "k8s.io/api/core/v1"
	"k8s.io/apimachinery/pkg/api/resource"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"
)

// StorageCluster is a Ceph cluster on the disks of this Kubernetes cluster.
//
// +kubebuilder:object:root=true
// +kubebuilder:subresource:status
// +kubebuilder:resource:shortName=sc-cairn,categories=cairn
// +kubebuilder:printcolumn:name="Ready",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].status`
// +kubebuilder:printcolumn:name="Health",type=string,JSONPath=`.status.health.status`
// +kubebuilder:printcolumn:name="Mons",type=string,JSONPath=`.status.mons.summary`
// +kubebuilder:printcolumn:name="OSDs",type=string,JSONPath=`.status.osds.summary`
// +kubebuilder:printcolumn:name="Capacity",type=string,JSONPath=`.status.capacity.total`
// +kubebuilder:printcolumn:name="Used",type=string,JSONPath=`.status.capacity.used`
// +kubebuilder:printcolumn:name="Doing",type=string,JSONPath=`.status.conditions[?(@.type=="Ready")].message`
// +kubebuilder:printcolumn:name="Age",type=date,JSONPath=`.metadata.creationTimestamp`
// +kubebuilder:validation:XValidation:rule="size(self.metadata.name) <= 40",message="metadata.name: at most 40 characters, so that the names of the cluster's daemons fit"
// +kubebuilder:validation:XValidation:rule="self.metadata.name.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')",message="metadata.name: lower-case letters, digits and -, and it must begin with a letter: the mons' Services bear it"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.deletion) || !has(self.spec.deletion.confirmation) || size(self.spec.deletion.confirmation) == 0 || self.spec.deletion.confirmation == 'yes-destroy-all-data-of-' + self.metadata.name",message="spec.deletion.confirmation: must be yes-destroy-all-data-of- and the cluster's own name"
// +kubebuilder:validation:XValidation:rule="!has(self.spec.mon) || !has(self.spec.mon.recovery) || self.spec.mon.recovery.confirmation == 'yes-rebuild-the-quorum-of-' + self.metadata.name + (self.spec.mon.recovery.from == 'osds' ? '-from-' : '-from-mon-') + self.spec.mon.recovery.from || self.spec.mon.recovery.from != 'osds' && self.spec.mon.recovery.confirmation == 'yes-rebuild-the-quorum-of-' + self.metadata.name + '-from-mon-' + self.spec.mon.recovery.from + '-though-it-was-out'",message="spec.mon.recovery.confirmation: must be yes-rebuild-the-quorum-of-, the cluster's own name, -from-mon- and spec.mon.recovery.from, or -from-osds"
type StorageCluster struct {
	metav1.TypeMeta   `json:",inline"`
	metav1.ObjectMeta `json:"metadata,omitempty"`

	Spec StorageClusterSpec `json:"spec"`
	// +optional
	Status StorageClusterStatus `json:"status,omitempty"`
}

// StorageClusterList is a list of StorageCluster.
//
// +kubebuilder:object:root=true
type StorageClusterList struct {
	metav1.TypeMeta `json:",inline"`
	metav1.ListMeta `json:"metadata,omitempty"`
	Items           []StorageCluster `json:"items"`
}

// StorageClusterSpec is what the cluster should be.
// +kubebuilder:validation:XValidation:rule="!(has(self.network) && has(self.network.provider) && self.network.provider == 'host' && has(self.mon) && has(self.mon.allowSharedNode) && self.mon.allowSharedNode)",message="spec.mon.allowSharedNode: not with spec.network.provider host: the mons of one node would have one address"
type StorageClusterSpec struct {
	// Ceph chooses the release and its options.
	// +kubebuilder:default={}
	Ceph CephSpec `json:"ceph,omitempty"`
	// Mon are the monitors, which keep the cluster's maps.
	// +kubebuilder:default={}
	Mon MonSpec `json:"mon,omitempty"`
	// Mgr are the managers: one active, the other standing by.
	// +kubebuilder:default={}
	Mgr MgrSpec `json:"mgr,omitempty"`
	// Network that daemons and clients use.
	// +kubebuilder:default={}
	Network NetworkSpec `json:"network,omitempty"`
	// DataPath is the directory on each node for what the daemons keep there: the mons' stores. It cannot be changed.
	// +kubebuilder:default="/var/lib/cairn"
	// +kubebuilder:validation:MaxLength=200
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.dataPath: cannot be changed, because the mons' stores lie there"
	// +kubebuilder:validation:XValidation:rule="self.matches('^/([A-Za-z0-9._-]+/)*[A-Za-z0-9._-]+$') && !self.contains('..')",message="spec.dataPath: must be an absolute path without '..', for instance /var/lib/cairn"
	DataPath string `json:"dataPath,omitempty"`
	// Storage says what OSDs live on: devices of nodes, or PersistentVolumeClaims.
	Storage StorageSpec `json:"storage"`
	// Resources of the daemons.
	// +optional
	Resources ResourcesSpec `json:"resources,omitempty"`
	// Placement of mons and mgrs. OSDs run where their devices are.
	// +optional
	Placement PlacementSpec `json:"placement,omitempty"`
	// Approval is Automatic, or Manual to hold every step that moves data, reduces redundancy or destroys something
	// until you approve it: 'kubectl cairn approve'.
	// +kubebuilder:default=Automatic
	// +kubebuilder:validation:Enum=Automatic;Manual
	Approval string `json:"approval,omitempty"`
	// Drain says what happens while a node is drained.
	// +kubebuilder:default={}
	Drain DrainSpec `json:"drain,omitempty"`
	// Security says of which generation the keys are that daemons and clients have.
	// +kubebuilder:default={}
	Security SecuritySpec `json:"security,omitempty"`
	// Deletion says what happens to the data when this resource is deleted.
	// +kubebuilder:default={}
	Deletion DeletionSpec `json:"deletion,omitempty"`
}

// CephSpec chooses the release and its options.
type CephSpec struct {
	// Image of the Ceph daemons.
	// +kubebuilder:default="cairn.storage/ceph:20.2.4"
	// +kubebuilder:validation:MaxLength=255
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z0-9]([a-z0-9._/-]|:[0-9]+/)*(:[A-Za-z0-9_][A-Za-z0-9_.-]*)?(@sha256:[a-f0-9]{64})?$')",message="spec.ceph.image: must be an image reference such as cairn.storage/ceph:20.2.4"
	Image string `json:"image,omitempty"`
	// ImagePullPolicy of the daemons' image.
	// +kubebuilder:default=IfNotPresent
	// +kubebuilder:validation:Enum=IfNotPresent;Always;Never
	ImagePullPolicy corev1.PullPolicy `json:"imagePullPolicy,omitempty"`
	// Config are Ceph options, by section: global, mon, mgr, osd, client. Those that Ceph changes at run time are set while
	// daemons run; for others the daemons that read them restart. An option that Ceph cannot have is refused.
	// +optional
	// +kubebuilder:validation:MaxProperties=16
	// +kubebuilder:validation:XValidation:rule="self.all(s, s.matches('^(global|mon|mgr|osd|client)([.][A-Za-z0-9_.-]+)?$'))",message="spec.ceph.config: sections are global, mon, mgr, osd and client, or one daemon such as osd.3"
	Config map[string]ConfigSection `json:"config,omitempty"`
}

// ConfigSection are options and their values.
// +kubebuilder:validation:MaxProperties=128
// +kubebuilder:validation:XValidation:rule="self.all(o, o.matches('^[a-z][a-z0-9_/]*$'))",message="spec.ceph.config: option names are lower case with underscores, such as osd_max_backfills"
// +kubebuilder:validation:XValidation:rule="self.all(o, !(o in ['fsid','mon_host','keyring','key','public_addr','mon_data','osd_data']))",message="spec.ceph.config: fsid, mon_host, keyring, key, public_addr, mon_data and osd_data are set by Cairn"
// +kubebuilder:validation:XValidation:rule="self.all(o, !(o in ['ms_cluster_mode','ms_service_mode','ms_client_mode','ms_mon_cluster_mode','ms_mon_service_mode','ms_mon_client_mode','ms_bind_msgr1','ms_osd_compress_mode']))",message="spec.ceph.config: ms_cluster_mode, ms_service_mode, ms_client_mode, ms_mon_cluster_mode, ms_mon_service_mode, ms_mon_client_mode, ms_bind_msgr1 and ms_osd_compress_mode are set by spec.network.encryption and spec.network.compression"
type ConfigSection map[string]ConfigValue

// ConfigValue is one line of ceph.conf.
// +kubebuilder:validation:MaxLength=1024
// +kubebuilder:validation:XValidation:rule="!self.contains('\\n') && !self.contains('\\r')",message="spec.ceph.config: a value is one line"
type ConfigValue string

// MonSpec are the monitors.
type MonSpec struct {
	// Count of mons: 1, which does not survive its node, 3 or 5.
	// +kubebuilder:default=3
	// +kubebuilder:validation:XValidation:rule="self in [1, 3, 5]",message="spec.mon.count: must be 1, 3 or 5: an even number tolerates no more failures than one less"
	Count int32 `json:"count,omitempty"`
	// FailoverAfter is how long a mon may be out of quorum before another node gets one in its place.
	// +kubebuilder:default="10m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('10s')",message="spec.mon.failoverAfter: must be 10s or more: a restart takes a mon out of quorum for a moment"
	FailoverAfter *metav1.Duration `json:"failoverAfter,omitempty"`
	// AllowSharedNode lets several mons run on one node. A lost node may then lose the quorum.
	// +optional
	AllowSharedNode bool `json:"allowSharedNode,omitempty"`
	// Recovery rebuilds a quorum that is lost for ever from one mon that is left, or from the OSDs when none is. It can lose the newest changes of the
	// cluster's maps. It is for one loss: nothing is done once the mons have a quorum, and it may stay when all is done.
	// +optional
	Recovery *MonRecovery `json:"recovery,omitempty"`
}

// FromOSDs is where a quorum is rebuilt from when the store of no mon is left.
const FromOSDs = "osds"

// MonRecovery rebuilds a lost quorum from one mon, or from the OSDs.
type MonRecovery struct {
	// From is the mon whose store all others are made from. Every other mon is given up, its store is never used again.
	// With osds no mon's store is left, and one is made from what the OSDs know: all of them stop meanwhile.
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]{1,4}$')",message="spec.mon.recovery.from: must be a mon's name, such as a, or osds"
	// +kubebuilder:validation:MaxLength=4
	From string `json:"from"`
	// LostSince says which loss this is for: since when the condition Quorum is False, as the blocker QuorumLost says.
	LostSince metav1.Time `json:"lostSince"`
	// Confirmation: yes-rebuild-the-quorum-of-, the cluster's name, -from-mon- and the mon's name; or -from-osds. A mon that was
	// out of quorum already when that was lost does not know what was decided since: then -though-it-was-out follows.
	// +kubebuilder:validation:MaxLength=100
	Confirmation string `json:"confirmation"`
	// SkipNodes are nodes that are gone for ever. The pods of mons elsewhere must have stopped before the quorum is rebuilt,
	// or there could be two; those on a node named here are not waited for while it is not ready. With from: osds the OSDs
	// of such a node are given up too: empty their disks before they are used again.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=10
	SkipNodes []NodeName `json:"skipNodes,omitempty"`
}

// MgrSpec are the managers.
type MgrSpec struct {
	// Count of mgrs: 1, or 2 for one that stands by.
	// +kubebuilder:default=2
	// +kubebuilder:validation:Minimum=1
	// +kubebuilder:validation:Maximum=2
	Count int32 `json:"count,omitempty"`
}

// NetworkSpec is the network that daemons and clients use.
// +kubebuilder:validation:XValidation:rule="!(has(self.encryption) && self.encryption && has(self.compression) && self.compression)",message="spec.network.compression: not together with encryption: what is compressed before it is encrypted tells of its content by its length"
type NetworkSpec struct {
	// Provider is pod (the pods' own network; a Service gives each mon a stable address) or host (the nodes' addresses).
	// It cannot be changed.
	// +kubebuilder:default=pod
	// +kubebuilder:validation:Enum=pod;host
	// +kubebuilder:validation:XValidation:rule="self == oldSelf",message="spec.network.provider: cannot be changed, because every daemon's address would change at once"
	Provider string `json:"provider,omitempty"`
	// Encryption of all that daemons and clients send each other: the daemons then refuse what is not encrypted, and restart
	// one after the other when this is changed. Nodes that map volumes by the kernel need Linux 5.11 or later.
	// +optional
	Encryption bool `json:"encryption,omitempty"`
	// Compression of what OSDs send each other, the replicas of writes among them. They restart one after the other
	// when this is changed.
	// +optional
	Compression bool `json:"compression,omitempty"`
}

// StorageSpec says which devices of which nodes become OSDs. There is no "all devices": a device is used
// because it is named or because a filter that you wrote matches it, and never when it holds data.
// +kubebuilder:validation:XValidation:rule="has(self.nodes) && size(self.nodes) > 0 || has(self.nodeSelector) || has(self.claims) && size(self.claims) > 0",message="spec.storage: name the nodes in spec.storage.nodes, select them with spec.storage.nodeSelector, or ask for claims in spec.storage.claims"
// +kubebuilder:validation:XValidation:rule="!has(self.nodeSelector) || has(self.filter)",message="spec.storage.filter: needed with spec.storage.nodeSelector: say which devices of the selected nodes to use"
// +kubebuilder:validation:XValidation:rule="!has(self.nodes) || has(self.filter) || self.nodes.all(n, has(n.filter) || (has(n.devices) && size(n.devices) > 0))",message="spec.storage.nodes: each node needs devices or a filter (its own or spec.storage.filter)"
// +kubebuilder:validation:XValidation:rule="!has(self.encrypted) || !self.encrypted || !has(self.claims) || size(self.claims) == 0",message="spec.storage.encrypted: OSDs on claims cannot be encrypted by Cairn; have the StorageClass encrypt, or leave out spec.storage.claims"
// +kubebuilder:validation:XValidation:rule="!has(self.encrypted) || !self.encrypted || !has(self.nodes) || self.nodes.all(n, !has(n.devices) || n.devices.all(d, !has(d.dbDevice)))",message="spec.storage.encrypted: an OSD with a dbDevice cannot be encrypted yet; leave out dbDevice"
type StorageSpec struct {
	// Encrypted has every OSD that is made from now on be on an encrypted device (LUKS2, dm-crypt), whose key is in the OSD's Secret:
	// without it the data are lost. A node whose kernel has no dm-crypt gets no OSD. An OSD that was made before stays as it was
	// made; the condition Encrypted names those.
	// +optional
	Encrypted bool `json:"encrypted,omitempty"`
	// NodeSelector selects nodes by label; their devices that match filter are used.
	// +optional
	NodeSelector *metav1.LabelSelector `json:"nodeSelector,omitempty"`
	// Filter selects devices on nodes that have none of their own.
	// +optional
	Filter *DeviceFilter `json:"filter,omitempty"`
	// DeviceClass of OSDs that set none of their own; empty lets Ceph tell ssd from hdd.
	// +optional
	DeviceClass DeviceClass `json:"deviceClass,omitempty"`
	// OnRemoval says what becomes of a disk when its OSD has left because the spec let go of it. Keep leaves what is on it, and the
	// disk is refused until you wipe it. Wipe empties it, once Ceph knows the OSD no more and all data is elsewhere in full: the
	// disk can be named again, and what was on it is gone. Claims are deleted in either case.
	// +kubebuilder:default=Keep
	// +kubebuilder:validation:Enum=Keep;Wipe
	OnRemoval string `json:"onRemoval,omitempty"`
	// Nodes whose devices are used, each once. For more than 256 nodes use nodeSelector and filter.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=256
	Nodes []StorageNode `json:"nodes,omitempty"`
	// Claims are sets of OSDs on PersistentVolumeClaims, which Cairn makes.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=6
	Claims []StorageClaims `json:"claims,omitempty"`
}

// StorageClaims are OSDs that are alike, each on a PersistentVolumeClaim of its own. A claim is named by the
// cluster, the set and its index: main-fast-0.
// +kubebuilder:validation:XValidation:rule="self.portable == oldSelf.portable",message="spec.storage.claims.portable: cannot be changed, because every OSD of the set would be in another failure domain at once; make another set, and set the count of this one to 0"
// +kubebuilder:validation:XValidation:rule="has(self.storageClassName) == has(oldSelf.storageClassName) && (!has(self.storageClassName) || self.storageClassName == oldSelf.storageClassName)",message="spec.storage.claims.storageClassName: cannot be changed, because a claim keeps its StorageClass; make another set, and set the count of this one to 0"
type StorageClaims struct {
	// Name of the set.
	// +kubebuilder:validation:MaxLength=30
	// +kubebuilder:validation:XValidation:rule="self.matches('^[a-z]([a-z0-9-]*[a-z0-9])?$')",message="spec.storage.claims.name: lower-case letters, digits and -, and it must begin with a letter: the claims bear it"
	Name string `json:"name"`
	// Count of OSDs. When it is lowered, those with the highest indexes leave once their data is elsewhere; then their claims
	// are deleted.
	// +kubebuilder:validation:Minimum=0
	// +kubebuilder:validation:Maximum=1000
	Count int32 `json:"count"`
	// Size of each claim. It may grow where the StorageClass allows that, and never shrink.
	// +kubebuilder:validation:XValidation:rule="!quantity(string(self)).isLessThan(quantity('1Gi'))",message="spec.storage.claims.size: must be 1Gi or more: an OSD needs as much"
	// +kubebuilder:validation:XValidation:rule="!quantity(string(self)).isLessThan(quantity(string(oldSelf)))",message="spec.storage.claims.size: may grow only: a claim does not shrink. Make another set, and set the count of this one to 0"
	Size resource.Quantity `json:"size"`
	// StorageClassName of the claims, which have volumeMode Block; without it the default StorageClass. It cannot be changed.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	StorageClassName *string `json:"storageClassName,omitempty"`
	// Portable is true where a volume can be used from several nodes: its OSD may move to another node, and takes its data and
	// its place in the CRUSH map along; each is a host there. It is false where a volume is bound to one node, as local ones
	// are: the OSD counts to that node. It cannot be changed.
	Portable bool `json:"portable"`
	// DeviceClass of the OSDs in place of spec.storage.deviceClass.
	// +optional
	DeviceClass DeviceClass `json:"deviceClass,omitempty"`
	// Skip are indexes that are left out; others take their place. An OSD that has one leaves, as one does whose claim is lost.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=100
	// +kubebuilder:validation:items:Minimum=0
	Skip []int32 `json:"skip,omitempty"`
}

// DeviceClass is a CRUSH device class.
// +kubebuilder:validation:MaxLength=32
// +kubebuilder:validation:Pattern=`^([a-z][a-z0-9_-]*)?$`
type DeviceClass string

// StorageNode is one node and what of it is used.
// +kubebuilder:validation:XValidation:rule="!(has(self.devices) && has(self.filter))",message="spec.storage.nodes: a node has devices or a filter, not both"
type StorageNode struct {
	// Name of the Kubernetes node.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=253
	Name string `json:"name"`
	// Devices by their stable names.
	// +optional
	// +listType=map
	// +listMapKey=name
	// +kubebuilder:validation:MaxItems=48
	Devices []StorageDevice `json:"devices,omitempty"`
	// Filter selects devices in place of spec.storage.filter.
	// +optional
	Filter *DeviceFilter `json:"filter,omitempty"`
	// DeviceClass in place of spec.storage.deviceClass.
	// +optional
	DeviceClass DeviceClass `json:"deviceClass,omitempty"`
}

// StorageDevice is one device.
// +kubebuilder:validation:XValidation:rule="!has(self.dbDevice) || self.dbDevice != self.name",message="spec.storage.nodes.devices.dbDevice: must be another device than name"
type StorageDevice struct {
	// Name below /dev/disk/by-id as NodeStorage shows it, or a full path below /dev/disk.
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="!self.matches(r'^(/dev/)?(x?[hsv]d[a-z]+\\d*|nvme\\d+n.*|(loop|dm-|md)\\d+)$')",message="spec.storage.nodes.devices.name: kernel names such as /dev/sdb change between boots; use the name below /dev/disk/by-id that 'kubectl get nodestorage -o yaml' shows"
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/dev/disk/by-[a-z]+/)?[A-Za-z0-9+_.:@=-]+$')",message="spec.storage.nodes.devices.name: must be a name below /dev/disk/by-id, or a path such as /dev/disk/by-path/pci-0000:00:1f.2-ata-1"
	Name string `json:"name"`
	// DeviceClass in place of the node's.
	// +optional
	DeviceClass DeviceClass `json:"deviceClass,omitempty"`
	// Replaces names the device of this node whose OSD this one takes the place of: the ID stays, and data
	// flows back to this device only. The other is no longer in the list; it may be dead or gone. The
	// same name says that the disk in this place was exchanged. It may stay when all is done.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:XValidation:rule="self.matches('^(/dev/disk/by-[a-z]+/)?[A-Za-z0-9+_.:@=-]+$')",message="spec.storage.nodes.devices.replaces: must be the name that the device had in spec.storage, such as wwn-0x5000c500a1b2c3d4"
	Replaces string `json:"replaces,omitempty"`
	// DBDevice is a device of this node, faster than this one, for the OSD's database (BlueStore's block.db). It is used
	// as a whole and by this OSD alone, must be blank as this one, and is fixed when the OSD is made: without it the OSD is lost.
	// +optional
	// +kubebuilder:validation:MaxLength=128
	// +kubebuilder:validation:Pattern=`^(/dev/disk/by-[a-z]+/)?[A-Za-z0-9+_.:@=-]+$`
	DBDevice string `json:"dbDevice,omitempty"`
	// Weight of the OSD in Ceph's CRUSH map in place of that of the device's size, as a size: 2Ti is the weight 2.0. With half the
	// weight the OSD gets half the data. Data moves when it is changed; without it the weight is that of the size again.
	// +optional
	// +kubebuilder:validation:MaxLength=12
	// +kubebuilder:validation:XValidation:rule="self.matches('^([1-9][0-9]{0,3}([.][0-9]{1,5})?Ti|0[.][0-9]{0,2}[1-9][0-9]{0,4}Ti|[1-9][0-9]{0,6}Gi)$')",message="spec.storage.nodes.devices.weight: must be a size in Gi or Ti, from 1Gi to 9999Ti: 1.5Ti is what Ceph calls the weight 1.5. To have no data on the device take it out"
	Weight string `json:"weight,omitempty"`
}

// DeviceFilter selects devices. All that is set must match.
// +kubebuilder:validation:XValidation:rule="has(self.idPattern) || has(self.minSize) || has(self.maxSize) || has(self.rotational)",message="filter: set at least one of idPattern, minSize, maxSize and rotational: an empty filter would take every device"
type DeviceFilter struct {
	// IDPattern is a regular expression that a device's stable name must match as a whole.
	// +optional
	// +kubebuilder:validation:MinLength=1
	// +kubebuilder:validation:MaxLength=200
	IDPattern string `json:"idPattern,omitempty"`
	// MinSize and MaxSize bound the device's size.
	// +optional
	MinSize *resource.Quantity `json:"minSize,omitempty"`
	// +optional
	MaxSize *resource.Quantity `json:"maxSize,omitempty"`
	// Rotational is true for disks that turn, false for those that do not.
	// +optional
	Rotational *bool `json:"rotational,omitempty"`
}

// ResourcesSpec are the resources of the daemons' containers.
type ResourcesSpec struct {
	// +optional
	Mon corev1.ResourceRequirements `json:"mon,omitempty"`
	// +optional
	Mgr corev1.ResourceRequirements `json:"mgr,omitempty"`
	// +optional
	OSD corev1.ResourceRequirements `json:"osd,omitempty"`
}

// PlacementSpec is where mons and mgrs may run.
type PlacementSpec struct {
	// NodeSelector are labels that a node must have.
	// +optional
	NodeSelector map[string]string `json:"nodeSelector,omitempty"`
	// Tolerations of all daemons, OSDs too.
	// +optional
	// +listType=atomic
	Tolerations []corev1.Toleration `json:"tolerations,omitempty"`
}

// DrainSpec says what happens while a node is drained.
type DrainSpec struct {
	// RebuildAfter is how long the OSDs of a cordoned node may be stopped before Ceph makes their data anew on other
	// nodes. With 0s Ceph decides, as for every OSD that is down: after 10 minutes.
	// +kubebuilder:default="30m"
	// +kubebuilder:validation:XValidation:rule="duration(self) >= duration('0s') && duration(self) <= duration('24h')",message="spec.drain.rebuildAfter: must be between 0s and 24h: until then the data has one replica less"
	RebuildAfter *metav1.Duration `json:"rebuildAfter,omitempty"`
}

// DeletionSpec says what happens to the data when the StorageCluster is deleted.
type DeletionSpec struct {
	// Policy Retain keeps the devices, the mons' stores and addresses, and the Secrets with keys: a StorageCluster of the
	// same name takes them up again. Destroy empties the devices and removes all else, once Confirmation is given.
	// +kubebuilder:default=Retain
	// +kubebuilder:validation:Enum=Retain;Destroy
	Policy string `json:"policy,omitempty"`
	// Confirmation of Destroy: yes-destroy-all-data-of- and the cluster's name. Without it a deleted cluster stays as it is.
	// +optional
	// +kubebuilder:validation:MaxLength=80
	Confirmation string `json:"confirmation,omitempty"`
	// SkipNodes are nodes that are gone for ever: Destroy does not wait for them, and what is on their disks stays.
	// +optional
	// +listType=set
	// +kubebuilder:validation:MaxItems=1000
	SkipNodes []NodeName `json:"skipNodes,omitempty"`
}

// NodeName names a Kubernetes node.
//
// +kubebuilder:validation:MinLength=1
// +kubebuilder:validation:MaxLength=253
type NodeName string

// StorageClusterStatus is what the cluster is.
type StorageClusterStatus struct {
	// ObservedGeneration of the spec that this status is about.
	// +optional
	ObservedGeneration int64 `json:"observedGeneration,omitempty"`
	// Conditions: Ready, Quorum, Healthy, Drainable.
	// +optional
	// +listType=map
	// +listMapKey=type
	Conditions []metav1.Condition `json:"conditions,omitempty"`
	// FSID is Ceph's own name of this cluster.
	// +optional
	FSID string `json:"fsid,omitempty"`
	// Health as Ceph sees it, with its reasons.
	// +optional
	Health HealthStatus `json:"health,omitempty"`
	// Capacity, raw: before replication.
	// +optional
	Capacity CapacityStatus `json:"capacity,omitempty"`
	// +optional
	Mons DaemonStatus `json:"mons,omitempty"`
	// LastMon is the last name that a mon was given: none is given twice.
	// +optional
	LastMon string `json:"lastMon,omitempty"`
	// MonRecovery is the last rebuilding of the quorum from one mon, or from the OSDs.
	// +optional
	MonRecovery *MonRecoveryStatus `json:"monRecovery,omitempty"`
	// +optional
	Mgrs DaemonStatus `json:"mgrs,omitempty"`
	// +optional
	OSDs DaemonStatus `json:"osds,omitempty"`
	// Versions of Ceph that daemons run, and how many.
	// +optional
	Versions map[string]int32 `json:"versions,omitempty"`
	// Drained are the cordoned nodes whose OSDs are stopped.
	// +optional
	// +listType=map
	// +listMapKey=node
	Drained []DrainedNode `json:"drained,omitempty"`
	// Image of Ceph that all daemons run, or ran before the upgrade that is under way.
	// +optional
	Image string `json:"image,omitempty"`
	// Upgrade is the change to another image that is under way.
	// +optional
	Upgrade *UpgradeStatus `json:"upgrade,omitempty"`
	// CephX says of which generation the keys are.
	// +optional
	CephX CephXStatus `json:"cephx,omitempty"`
	// Plan is the work that is left, in order. Empty when the cluster is as the spec says.
	// +optional
	// +listType=atomic
	Plan []PlanStep `json:"plan,omitempty"`
	// Blocker is the one thing that holds the plan up, and what to do about it.
	// +optional
	Blocker *Blocker `json:"blocker,omitempty"`
}

// MonRecoveryStatus is a rebuilding of the quorum from one mon, or from the OSDs.
type MonRecoveryStatus struct {
	// From is the mon whose store it is made from, and Node where that lies. From the OSDs it is osds, and Node has the
	// OSD with the newest maps, once that is known.
	From string `json:"from"`
	// +optional
	Node string `json:"node,omitempty"`
	// Mon is who begins with the store that is made from the OSDs, and Epoch the OSD map that it knows.
	// +optional
	Mon string `json:"mon,omitempty"`
	// +optional
	Epoch int64 `json:"epoch,omitempty"`
	// LostSince is the loss that it is for.
	LostSince metav1.Time `json:"lostSince"`
	// GaveUp are the mons that are no more.
	// +optional
	// +listType=set
	GaveUp []string `json:"gaveUp,omitempty"`
	// GaveUpOSDs are the UUIDs of the OSDs that were not asked which map they have: they never start again.
	// +optional
	// +listType=set
	GaveUpOSDs []string `json:"gaveUpOSDs,omitempty"`
	// Image of Ceph whose programs change the store.
	Image string `json:"image"`
	// Began and Finished are when; Finished is empty while it is under way.
	Began metav1.Time `json:"began"`
	// +optional
	Finished *metav1.Time `json:"finished,omitempty"`
	// Backup is where on the node the store lies as it was; from the OSDs, where on each node it was collected.
	Backup string `json:"backup"`
}

// UpgradeStatus is a change to another image of Ceph.
type UpgradeStatus struct {
	// Image that daemons get.
	Image string `json:"image"`
	// From is the version that the mons ran when it began.
	// +optional
	From string `json:"from,omitempty"`
	// Version of Ceph that the image says it is.
	Version string `json:"version"`
	// Began is when it began.
	Began metav1.Time `json:"began"`
	// HealthBefore are the health checks that stood when it began. It halts when others come.
	// +optional
	// +listType=map
	// +listMapKey=code
	HealthBefore []HealthCheck `json:"healthBefore,omitempty"`
	// Progress counts the daemons that have the image: "3/8".
	// +optional
	Progress string `json:"progress,omitempty"`
}

// HealthStatus is Ceph's health.
type HealthStatus struct {
	// Status is HEALTH_OK, HEALTH_WARN or HEALTH_ERR.
	// +optional
	Status string `json:"status,omitempty"`
	// Checks are the reasons that Ceph gives.
	// +optional
	// +listType=map
	// +listMapKey=code
	Checks []HealthCheck `json:"checks,omitempty"`
}

// HealthCheck is one reason.
type HealthCheck struct {
	// Code such as OSD_DOWN.
	Code string `json:"code"`
	// Severity is HEALTH_WARN or HEALTH_ERR.
	Severity string `json:"severity"`
	// Summary in Ceph's words.
	Summary string `json:"summary"`
	// Muted checks do not count for the health.
	// +optional
	Muted bool `json:"muted,omitempty"`
}

// CapacityStatus is in raw bytes.
type CapacityStatus struct {
	// +optional
	Total *resource.Quantity `json:"total,omitempty"`
	// +optional
	Used *resource.Quantity `json:"used,omitempty"`
	// +optional
	Available *resource.Quantity `json:"available,omitempty"`
}

// DaemonStatus counts the daemons of a kind.
type DaemonStatus struct {
	// Desired is how many the spec asks for.
	// +optional
	Desired int32 `json:"desired,omitempty"`
	// Ready is how many do their work: mons in quorum, mgrs active or standing by, OSDs up and in.
	// +optional
	Ready int32 `json:"ready,omitempty"`
	// Summary is both: "3/3".
	// +optional
	Summary string `json:"summary,omitempty"`
}

// PlanStep is one step of the work that is left.
type PlanStep struct {
	// Name of the step: mon-b, osd-node2-disk1.
	Name string `json:"name"`
	// What is done.
	What string `json:"what"`
	// Why it is done.
	Why string `json:"why"`
	// Gate is what must hold before it is done; empty when nothing holds it up.
	// +optional
	Gate string `json:"gate,omitempty"`
	// Risk is the worst that the step does: None, Restart, MovesData, ReducesRedundancy or Destroys.
	// +optional
	Risk Risk `json:"risk,omitempty"`
	// NeedsApproval is true while spec.approval is Manual and the step has none.
	// +optional
	NeedsApproval bool `json:"needsApproval,omitempty"`
}

// DrainedNode is a cordoned node whose OSDs are stopped.
type DrainedNode struct {
	Node string `json:"node"`
	// Since is when the first of its OSDs was seen stopped.
	Since metav1.Time `json:"since"`
	// RebuildAt is until when Ceph is told not to make its data anew elsewhere (noout).
	RebuildAt metav1.Time `json:"rebuildAt"`
}

// Blocker is what holds the plan up.
type Blocker struct {
	// Reason is a constant for programs.
	Reason string `json:"reason"`
	// Message says which thing, where, and what to do.
	Message string `json:"message"`
	// Since is when it was first seen.
	Since metav1.Time `json:"since"`
}
