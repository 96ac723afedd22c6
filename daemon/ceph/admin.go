package ceph

import "context"

// Admin is what the operator asks of a cluster. Every call returns an *Error.
// Each Ensure call may be repeated and changes nothing when all is as asked.
type Admin interface {
	// Status returns health, quorum, mgr and capacity in one look.
	Status(ctx context.Context) (*Status, error)
	// Placement returns where the cluster keeps its data, and by what rules.
	Placement(ctx context.Context) (*Placement, error)
	// OSDs returns every OSD that the OSD map knows.
	OSDs(ctx context.Context) ([]OSD, error)
	// NewOSD returns the ID of the OSD with this UUID, made with this key and
	// device class (empty lets Ceph find out) when it is new. Exists when the
	// UUID is known with another key.
	NewOSD(ctx context.Context, uuid string, key Key, class string) (int, error)
	// EnsureUser creates or changes a CephX user and returns its key.
	EnsureUser(ctx context.Context, entity string, caps Caps) (Key, error)
	// RemoveUser deletes a CephX user; none is fine.
	RemoveUser(ctx context.Context, entity string) error
	// PendingKey returns a new key for a user, which is let in with it beside its present one:
	// until CommitKey, or, within seconds, until it is first used. A daemon must not start with
	// it before CommitKey. Asked again it is the same. NotFound when there is no such user.
	PendingKey(ctx context.Context, entity string) (Key, error)
	// CommitKey makes a key that PendingKey returned the only one of its user; one that is so
	// already is fine. Invalid when it is neither.
	CommitKey(ctx context.Context, entity string, key Key) error
	// Pools returns every pool.
	Pools(ctx context.Context) ([]Pool, error)
	// EnsurePool creates a pool or changes it to its spec. Invalid when that cannot be.
	EnsurePool(ctx context.Context, spec PoolSpec) error
	// RemovePool deletes a pool, all its data and its erasure-code profile. NotFound when
	// there is none: what a removal that was cut short left is gone then too.
	RemovePool(ctx context.Context, name string) error
	// PoolImages returns the names of the images in a pool, over all namespaces:
	// those of deleted volumes and those in RBD's trash are among them.
	PoolImages(ctx context.Context, pool string) ([]string, error)
	// RemoveMon takes a mon out of the monmap; none is fine.
	RemoveMon(ctx context.Context, name string) error
	// SetConfig sets options in the mons' configuration database: who → option → value.
	// Invalid when Ceph has no such option or it cannot have that value.
	SetConfig(ctx context.Context, who, option, value string) error
	// UnsetConfig takes an option out of the configuration database; none is fine.
	UnsetConfig(ctx context.Context, who, option string) error
	// Config returns what is set in the configuration database, in Ceph's own form of
	// each value, without what is limited to a host or a device class.
	Config(ctx context.Context) ([]Setting, error)
	// Option describes an option as the mons that run know it. NotFound when there is
	// none; those of the mgr's modules (mgr/balancer/mode) are known once a mgr is active.
	Option(ctx context.Context, name string) (*Option, error)
	// OptionNames returns the names of all options that the mons know.
	OptionNames(ctx context.Context) ([]string, error)
	// OldClients returns the clients that the mons in quorum serve by version 1 of the
	// messenger, which knows no encryption: such as old kernels.
	OldClients(ctx context.Context) ([]Client, error)
	// ClientIDs returns, of each mon in quorum, the ID that it gave a client which asked just
	// now. A mon gives out greater and greater ones for as long as it runs. Those that are
	// known come with an error when some are not: Unreached when a mon has none to give, as in
	// the first seconds after it has started.
	ClientIDs(ctx context.Context) (map[string]uint64, error)
	// SetOSDOut takes an OSD out of data placement, or back in.
	SetOSDOut(ctx context.Context, id int, out bool) error
	// SetOSDWeight gives an OSD its weight in the CRUSH map, in TiB. NotFound when the
	// map does not have it.
	SetOSDWeight(ctx context.Context, id int, weight float64) error
	// StillNeeded says why an OSD cannot be destroyed without risk, in Ceph's words;
	// empty when all that it holds is elsewhere in full, or there is no such OSD.
	StillNeeded(ctx context.Context, id int) (string, error)
	// StillMissed says which data is not served while an OSD is down, as far as
	// Ceph can tell; empty when every PG is active and every object found without it.
	StillMissed(ctx context.Context, id int) (string, error)
	// PurgeOSD takes an OSD out of all maps, with its key; none is fine. Busy while
	// it runs or is still needed: Ceph itself looks once more.
	PurgeOSD(ctx context.Context, id int) error
	// NotOKToStop says why OSDs cannot all be down at once, beside those that are
	// down already, in Ceph's words; empty when every PG goes on serving.
	NotOKToStop(ctx context.Context, ids []int) (string, error)
	// Unreported says which PGs of an OSD have not told how they are since it came up, or
	// are not clean; empty when all have and are. Until then Status may count the PGs that
	// were clean before the OSD restarted. NotFound when the OSD map does not have it.
	Unreported(ctx context.Context, id int) (string, error)
	// SetNoOut keeps Ceph from taking the OSDs of a host out when they are down, or
	// ends that. The host is a bucket of the CRUSH map: NotFound when it is none.
	SetNoOut(ctx context.Context, host string, on bool) error
	// Releases returns what the daemons run, and what the maps ask of them.
	Releases(ctx context.Context) (*Releases, error)
	// RequireOSDRelease lets only OSDs of a release ("tentacle") or a later one take
	// part from now on. It cannot be taken back: Forbidden for an earlier one.
	RequireOSDRelease(ctx context.Context, release string) error
	// DestroyOSD ends the OSD with this ID and UUID, and keeps the ID and its place in
	// the CRUSH map for RenewOSD; one that is destroyed already is fine. Busy while it runs
	// or, asked once more, is still needed: of one whose device is lost, still missed.
	DestroyOSD(ctx context.Context, id int, uuid string, lost bool) error
	// RenewOSD gives the ID of a destroyed OSD to a new one with this UUID and key. Invalid
	// when the ID is another OSD's, Exists when the UUID is known with another key.
	RenewOSD(ctx context.Context, id int, uuid string, key Key) error
}

// Client is one that is connected.
type Client struct {
	// User is its CephX entity ("client.csi-node.node1"), Address its IP address.
	User, Address string
}

// Caps are CephX capabilities: daemon type → capability string.
type Caps map[string]string

// Status is a cluster at one moment.
type Status struct {
	FSID string
	// Health is HEALTH_OK, HEALTH_WARN or HEALTH_ERR.
	Health string
	Checks []HealthCheck
	// Mons are all of the monmap, Quorum those that take part now.
	Mons, Quorum []string
	// ActiveMgr is empty while no mgr is active; StandbyMgrs counts the others.
	ActiveMgr   string
	StandbyMgrs int
	// OSDs, all, up and in.
	OSDs, OSDsUp, OSDsIn int
	// Bytes, raw.
	BytesTotal, BytesUsed, BytesAvailable int64
	// Pools, of whatever use: Ceph's own .mgr is one once there is an OSD.
	Pools int
	// PGs by state: "active+clean" → 32.
	PGs map[string]int
	// Version → how many daemons run it ("20.2.4").
	Versions map[string]int
}

// HealthCheck is one reason for a health that is not OK.
type HealthCheck struct {
	Code     string // OSD_DOWN
	Severity string // HEALTH_WARN
	Summary  string // 1 osds down
	Muted    bool
}

// CleanPG reports of a PG's state whether all its data is where it should be, as often as it should.
func CleanPG(state string) bool {
	return state == "active+clean" || state == "active+clean+scrubbing" || state == "active+clean+scrubbing+deep"
}

// OSD is one entry of the OSD map.
type OSD struct {
	ID    int
	UUID  string
	Up    bool
	In    bool
	Class string
	Host  string
	// NoOut is true while SetNoOut holds for its host.
	NoOut bool
	// Destroyed OSDs have a UUID of zeros: their ID waits for another device.
	Destroyed bool
	// New is true of an OSD that has never been up since it got its UUID.
	New bool
	// Weight is the CRUSH weight: TiB of the device unless changed.
	Weight float64
	// Bytes of the device, zero until the OSD has reported.
	BytesTotal, BytesUsed int64
}

// PoolSpec is what a pool should be.
type PoolSpec struct {
	Name string
	// Size is the number of replicas; of an erasure-coded pool, that of all chunks.
	Size int
	// DataChunks and CodingChunks make an erasure-coded pool, which holds data alone: each
	// object is cut into as many chunks, and as many more are computed, any of which may be
	// lost. Zero makes a replicated pool. They cannot be changed: Invalid.
	DataChunks, CodingChunks int
	// DataPool is the erasure-coded pool of the data of images in this one; empty is this one.
	DataPool string
	// FailureDomain is the CRUSH bucket type that replicas are spread over: host, zone, osd.
	FailureDomain string
	// DeviceClass limits the pool to OSDs of a class; empty takes all.
	DeviceClass string
	// QuotaBytes limits the stored bytes; 0 is no limit.
	QuotaBytes int64
	// Compression is passive, aggressive or force; empty is none. It is for data that
	// is written from then on.
	Compression string
	// Application is rbd, cephfs or rgw.
	Application string
}

// Pool is a pool as it is.
type Pool struct {
	ID   int64
	Spec PoolSpec
	PGs  int
	// MinSize is with how many replicas or chunks at least the pool takes writes.
	MinSize int
	// Bytes stored (before replication or coding), and that could still be stored.
	BytesStored, BytesAvailable int64
}
