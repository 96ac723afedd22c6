// Package model is Ceph in memory: the same answers as a real cluster to what
// daemon/ceph asks, held to it by daemon/ceph/contract.
package model

import (
	"cmp"
	"context"
	"fmt"
	"slices"
	"sync"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Cluster is one modelled cluster. Its zero value is not usable: see New.
type Cluster struct {
	FSID string
	// Number says which ID an OSD's UUID gets when it is free, so that those who ask
	// at once do not share them out by chance. Without it, or below 0, the lowest that is free.
	Number func(uuid string) int

	mu       sync.Mutex
	mons     []string
	quorum   []string
	mgr      string
	standbys int
	checks   []ceph.HealthCheck
	osds     []ceph.OSD
	keys     map[string]ceph.Key // OSD UUID → key
	out      map[int]bool        // OSDs that were taken out by hand
	moving   map[int]bool        // OSDs that hold what is nowhere else
	noOut    map[string]bool     // hosts whose OSDs are not taken out
	states   map[string]int      // PGs by state; nil follows the OSDs
	recovers bool                // some PGs are not clean, whatever is up
	users    map[string]user
	pending  map[string]ceph.Key // entity → its next key
	removed  map[string]bool     // users that there were
	pools    map[int64]*pool
	nextPool int64
	nextID   uint64 // of images and snapshots
	capacity map[int64]int64
	blocked  map[string]time.Time    // client address → when its entry ends
	config   map[ceph.Setting]string // without a value → value
	clients  int
	old      []ceph.Client     // that speak version 1 of the messenger
	ids      map[string]uint64 // that mons give clients, where that was said
	asked    uint64            // how often they were asked otherwise
	fault    func(op string) error
	calls    map[string]int
	releases releases
}

type user struct {
	key  ceph.Key
	caps ceph.Caps
}

type pool struct {
	spec   ceph.PoolSpec
	images map[string]*imageData // namespace/name
	groups map[string]*groupData // namespace/name
}

// New returns a cluster with mons in quorum, an active mgr and no OSD.
func New(fsid string, mons ...string) *Cluster {
	if len(mons) == 0 {
		mons = []string{"a"}
	}
	return &Cluster{
		FSID: fsid, mons: mons, quorum: mons, mgr: "a",
		keys: map[string]ceph.Key{}, out: map[int]bool{}, moving: map[int]bool{}, noOut: map[string]bool{}, users: map[string]user{}, pending: map[string]ceph.Key{}, removed: map[string]bool{}, pools: map[int64]*pool{},
		config: map[ceph.Setting]string{}, calls: map[string]int{},
		capacity: map[int64]int64{}, blocked: map[string]time.Time{},
		releases: releases{versions: map[string]string{}, mons: "tentacle", osds: "tentacle"},
	}
}

// Connect returns a connection to the modelled cluster.
func (c *Cluster) Connect(_ context.Context, cred ceph.Credentials, _ ceph.ConnectOptions) (ceph.Conn, error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	if cred.FSID != "" && cred.FSID != c.FSID {
		return nil, ceph.Errorf(ceph.Invalid, "connect", "the mons serve cluster %s, not %s", c.FSID, cred.FSID)
	}
	if entity := "client." + cred.User; cred.User != "" && (c.users[entity].key != "" || c.removed[entity]) {
		if err := c.login(entity, cred.Key); err != nil {
			return nil, err
		}
	}
	c.clients++
	return &conn{Cluster: c, addrs: fmt.Sprintf("127.0.0.1:0/%d", c.clients)}, nil
}

// FailWith makes every call ask f first, with the operation's name; what f
// returns, the call returns. Nil ends it.
func (c *Cluster) FailWith(f func(op string) error) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.fault = f
}

// Calls returns how often each operation was called.
func (c *Cluster) Calls() map[string]int {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := make(map[string]int, len(c.calls))
	for op, n := range c.calls {
		out[op] = n
	}
	return out
}

// SetQuorum changes the monmap and who takes part in the quorum.
func (c *Cluster) SetQuorum(mons, quorum []string) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mons, c.quorum = mons, quorum
}

// Mons are the names in the monmap.
func (c *Cluster) Mons() []string {
	c.mu.Lock()
	defer c.mu.Unlock()
	return slices.Clone(c.mons)
}

// SetMgr changes which mgr is active and how many stand by.
func (c *Cluster) SetMgr(active string, standbys int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.mgr, c.standbys = active, standbys
}

// SetChecks replaces the health checks.
func (c *Cluster) SetChecks(checks ...ceph.HealthCheck) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.checks = checks
}

// Boot marks an OSD up and in, with a host and a size, as when its daemon starts. At its first
// start it gets the weight of its size, or the one that it was given.
func (c *Cluster) Boot(id int, host string, bytes int64, weight ...float64) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.osds {
		if c.osds[i].ID == id {
			c.osds[i].Up, c.osds[i].In, c.osds[i].Host, c.osds[i].BytesTotal = true, !c.out[id], host, bytes
			c.osds[i].New = false
			if c.osds[i].Weight == 0 {
				c.osds[i].Weight = cmp.Or(append(weight, float64(bytes)/(1<<40))...)
			}
			if c.osds[i].Class == "" {
				c.osds[i].Class = "hdd"
			}
		}
	}
}

// Down marks an OSD down.
func (c *Cluster) Down(id int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	for i := range c.osds {
		if c.osds[i].ID == id {
			c.osds[i].Up = false
		}
	}
}

// enter counts a call, applies the planted fault and takes the lock. The
// caller unlocks when err is nil.
func (c *Cluster) enter(ctx context.Context, op string) error {
	c.mu.Lock()
	c.calls[op]++
	fault := c.fault
	c.mu.Unlock()
	if err := ctx.Err(); err != nil {
		return &ceph.Error{Kind: ceph.Timeout, Op: op, Err: err}
	}
	if fault != nil {
		if err := fault(op); err != nil {
			return err
		}
	}
	c.mu.Lock()
	return nil
}
