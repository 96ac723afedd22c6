package v1alpha1

// The condition types of Cairn's kinds.
const (
	// ConditionReady is true when the resource is as its spec says.
	ConditionReady = "Ready"
	// ConditionQuorum is true while a majority of the mons agree.
	ConditionQuorum = "Quorum"
	// ConditionHealthy is true while Ceph reports HEALTH_OK.
	ConditionHealthy = "Healthy"
	// ConditionDrainable is true while a node may be drained.
	ConditionDrainable = "Drainable"
	// ConditionEncrypted is true when every OSD is encrypted; there is none where nobody asked for that.
	ConditionEncrypted = "Encrypted"
)

// The reasons of conditions and blockers. Each is emitted by the rule whose
// name it bears; its message says which thing, where, and what to do.
const (
	ReasonAsSpecified           = "AsSpecified"
	ReasonProgressing           = "Progressing"
	ReasonQuorate               = "Quorate"
	ReasonNoQuorum              = "NoQuorum"
	ReasonHealthOK              = "HealthOK"
	ReasonHealthWarn            = "HealthWarn"
	ReasonHealthErr             = "HealthErr"
	ReasonUnknown               = "Unknown"
	ReasonNotEnoughNodes        = "NotEnoughNodes"
	ReasonNodeNotFound          = "NodeNotFound"
	ReasonNodeNotInventory      = "NodeNotInventoried"
	ReasonDeviceNotFound        = "DeviceNotFound"
	ReasonDeviceRefused         = "DeviceRefused"
	ReasonDBDeviceChanged       = "DBDeviceChanged"
	ReasonOSDGivenUp            = "OSDGivenUp"
	ReasonInvalidOption         = "InvalidOption"
	ReasonBadFilter             = "BadFilter"
	ReasonNoDevices             = "NoDevices"
	ReasonWaitingForMgr         = "WaitingForMgr"
	ReasonPodFailing            = "PodFailing"
	ReasonKeysMismatch          = "KeysMismatch"
	ReasonMonsMissing           = "MonsMissing"
	ReasonNetworkMismatch       = "NetworkMismatch"
	ReasonKeysMissing           = "KeysMissing"
	ReasonCephUnreachable       = "CephUnreachable"
	ReasonQuorumLost            = "QuorumLost"
	ReasonRecoveryRefused       = "RecoveryRefused"
	ReasonStepFailed            = "StepFailed"
	ReasonNotSafeToRestart      = "NotSafeToRestart"
	ReasonNotSafeToRemove       = "NotSafeToRemove"
	ReasonNeedsApproval         = "NeedsApproval"
	ReasonMonLost               = "MonLost"
	ReasonDiskFailed            = "DiskFailed"
	ReasonEncryptionUnavailable = "EncryptionUnavailable"
	ReasonEncryptionKeyMissing  = "EncryptionKeyMissing"
	ReasonAllEncrypted          = "AllEncrypted"
	ReasonNotAllEncrypted       = "NotAllEncrypted"
	ReasonClaimLost             = "ClaimLost"
	ReasonClaimNotUsable        = "ClaimNotUsable"
	ReasonImageUnusable         = "ImageUnusable"
	ReasonUpgradeRefused        = "UpgradeRefused"
	ReasonUpgradeHalted         = "UpgradeHalted"
	ReasonInUse                 = "InUse"
	ReasonDeleting              = "Deleting"
	ReasonNotConfirmed          = "NotConfirmed"
	ReasonNodeGone              = "NodeGone"
	ReasonClusterNotFound       = "ClusterNotFound"
	ReasonClusterNotReady       = "ClusterNotReady"
	ReasonNameTaken             = "NameTaken"
	ReasonWrongNamespace        = "WrongNamespace"
	ReasonOneAtATime            = "OneAtATime"
	ReasonProtected             = "Protected"
	ReasonDrainBlocked          = "DrainBlocked"
	ReasonNodeDrained           = "NodeDrained"
	ReasonNodeLost              = "NodeLost"
	ReasonTooFewDomains         = "TooFewFailureDomains"
	ReasonNoRoom                = "NoRoom"
	ReasonNotSafeToChange       = "NotSafeToChange"
	ReasonPlacingData           = "PlacingData"
	ReasonFull                  = "Full"
	ReasonOldClients            = "OldClients"
	ReasonDataLost              = "DataLost"
)

// DeletionDestroy is the deletion policy that empties the disks.
const DeletionDestroy = "Destroy"

// RemovalWipe has the disk of an OSD that has left be emptied.
const RemovalWipe = "Wipe"

// The reasons why a device is not usable.
const (
	DeviceInUse          = "InUse"
	DeviceHasFilesystem  = "HasFilesystem"
	DeviceHasPartitions  = "HasPartitionTable"
	DeviceHasSignature   = "HasSignature"
	DeviceHasOSD         = "HasOSD"
	DeviceHasData        = "HasData"
	DeviceTooSmall       = "TooSmall"
	DeviceReadOnly       = "ReadOnly"
	DeviceNoStableName   = "NoStableName"
	DeviceCannotBeProbed = "CannotBeProbed"
)
