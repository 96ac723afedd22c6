package model

import (
	"cmp"
	"context"
	"fmt"
	"maps"
	"path"
	"slices"
	"time"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// Status returns health, quorum, mgr and capacity.
func (c *Cluster) Status(ctx context.Context) (*ceph.Status, error) {
	if err := c.enter(ctx, "Status"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	s := &ceph.Status{
		FSID: c.FSID, Health: "HEALTH_OK", Checks: slices.Clone(c.checks), Mons: slices.Clone(c.mons), Quorum: slices.Clone(c.quorum),
		ActiveMgr: c.mgr, StandbyMgrs: c.standbys, OSDs: len(c.osds), PGs: c.pgs(), Versions: c.overall(),
	}
	if s.Pools = len(c.pools); s.OSDs > 0 {
		s.Pools++
	}
	for _, osd := range c.osds {
		if osd.Up {
			s.OSDsUp++
		}
		if osd.In {
			s.OSDsIn++
		}
		s.BytesTotal += osd.BytesTotal
		s.BytesUsed += osd.BytesUsed
	}
	s.BytesAvailable = s.BytesTotal - s.BytesUsed
	for _, check := range c.checks {
		if check.Severity == "HEALTH_ERR" || s.Health == "HEALTH_OK" {
			s.Health = check.Severity
		}
	}
	return s, nil
}

// OSDs returns every OSD.
func (c *Cluster) OSDs(ctx context.Context) ([]ceph.OSD, error) {
	if err := c.enter(ctx, "OSDs"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	osds := slices.Clone(c.osds)
	for i := range osds {
		osds[i].NoOut = c.noOut[osds[i].Host]
	}
	return osds, nil
}

// NewOSD returns the ID of the OSD with this UUID.
func (c *Cluster) NewOSD(ctx context.Context, uuid string, key ceph.Key, class string) (int, error) {
	if err := c.enter(ctx, "NewOSD"); err != nil {
		return 0, err
	}
	defer c.mu.Unlock()
	for _, osd := range c.osds {
		if osd.UUID != uuid {
			continue
		}
		if c.keys[uuid] != key {
			return 0, ceph.Errorf(ceph.Exists, "osd new", "osd.%d exists with another key", osd.ID)
		}
		return osd.ID, nil
	}
	taken := make(map[int]bool, len(c.osds))
	for _, osd := range c.osds {
		taken[osd.ID] = true
	}
	id := 0
	if c.Number != nil {
		if number := c.Number(uuid); !taken[number] {
			id = max(number, 0)
		}
	}
	for taken[id] {
		id++
	}
	c.osds = append(c.osds, ceph.OSD{ID: id, UUID: uuid, Class: class, New: true})
	slices.SortFunc(c.osds, func(a, b ceph.OSD) int { return cmp.Compare(a.ID, b.ID) })
	c.keys[uuid] = key
	return id, nil
}

// SetOSDOut takes an OSD out of data placement, or back in.
func (c *Cluster) SetOSDOut(ctx context.Context, id int, out bool) error {
	if err := c.enter(ctx, "SetOSDOut"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for i := range c.osds {
		if c.osds[i].ID == id {
			c.osds[i].In = !out
			c.out[id] = out
			return nil
		}
	}
	return nil
}

// SetOSDWeight gives an OSD its weight in the CRUSH map.
func (c *Cluster) SetOSDWeight(ctx context.Context, id int, weight float64) error {
	if err := c.enter(ctx, "SetOSDWeight"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	for i := range c.osds {
		if c.osds[i].ID == id && !c.osds[i].New {
			c.osds[i].Weight = weight
			return nil
		}
	}
	return ceph.Errorf(ceph.NotFound, "osd crush reweight", "osd.%d does not exist in the CRUSH map", id)
}

// StillNeeded says why an OSD cannot be destroyed: it takes part in the placement
// of data, or the data that it holds is on its way still (SetMoving).
func (c *Cluster) StillNeeded(ctx context.Context, id int) (string, error) {
	if err := c.enter(ctx, "StillNeeded"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	return c.stillNeeded(id), nil
}

func (c *Cluster) stillNeeded(id int) string {
	for _, osd := range c.osds {
		switch {
		case osd.ID != id:
		case osd.In:
			return fmt.Sprintf("OSD(s) %d have 8 pgs currently mapped to them", id)
		case c.moving[id]:
			return fmt.Sprintf("OSD(s) %d last reported they still store some PG data, and not all PGs are active+clean", id)
		}
	}
	return ""
}

// SetMoving has an OSD hold data that is nowhere else yet.
func (c *Cluster) SetMoving(id int, moving bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.moving[id] = moving
}

// StillMissed says which data is not served while an OSD is down: what it alone
// holds (SetMoving).
func (c *Cluster) StillMissed(ctx context.Context, id int) (string, error) {
	if err := c.enter(ctx, "StillMissed"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	return c.stillMissed(id), nil
}

func (c *Cluster) stillMissed(id int) string {
	for _, osd := range c.osds {
		switch {
		case osd.ID == id && osd.Up:
			return fmt.Sprintf("8 PGs were on osd.%d when they last reported", id)
		case osd.ID == id && c.moving[id]:
			return "8 PGs are down"
		}
	}
	return ""
}

// SetPGs sets how many PGs are in which state, whatever is up.
func (c *Cluster) SetPGs(pgs map[string]int) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.states = pgs
}

// PurgeOSD takes an OSD out of all maps.
func (c *Cluster) PurgeOSD(ctx context.Context, id int) error {
	if err := c.enter(ctx, "PurgeOSD"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.osds, func(osd ceph.OSD) bool { return osd.ID == id })
	if at < 0 {
		return nil
	}
	if why := c.stillNeeded(id); why != "" {
		return ceph.Errorf(ceph.Busy, "osd purge", "%s", why)
	}
	if c.osds[at].Up {
		return ceph.Errorf(ceph.Busy, "osd purge", "osd.%d is not `down`", id)
	}
	delete(c.keys, c.osds[at].UUID)
	delete(c.out, id)
	c.osds = slices.Delete(slices.Clone(c.osds), at, at+1)
	return nil
}

// noUUID is that of a destroyed OSD.
const noUUID = "00000000-0000-0000-0000-000000000000"

// DestroyOSD ends an OSD and keeps its ID and place.
func (c *Cluster) DestroyOSD(ctx context.Context, id int, uuid string, lost bool) error {
	if err := c.enter(ctx, "DestroyOSD"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.osds, func(osd ceph.OSD) bool { return osd.ID == id })
	if at < 0 || c.osds[at].Destroyed {
		return nil
	}
	why := c.stillNeeded(id)
	if lost {
		why = c.stillMissed(id)
	}
	switch {
	case c.osds[at].UUID != uuid:
		return ceph.Errorf(ceph.Exists, "osd destroy", "osd.%d is %s, not %s", id, c.osds[at].UUID, uuid)
	case c.osds[at].Up:
		return ceph.Errorf(ceph.Busy, "osd destroy", "osd.%d runs", id)
	case why != "":
		return ceph.Errorf(ceph.Busy, "osd destroy", "%s", why)
	}
	delete(c.keys, uuid)
	c.osds[at].UUID, c.osds[at].Destroyed, c.osds[at].New = noUUID, true, true
	return nil
}

// RenewOSD gives the ID of a destroyed OSD to a new one; data is placed on it once it is up.
func (c *Cluster) RenewOSD(ctx context.Context, id int, uuid string, key ceph.Key) error {
	if err := c.enter(ctx, "RenewOSD"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	at := slices.IndexFunc(c.osds, func(osd ceph.OSD) bool { return osd.ID == id })
	switch {
	case at < 0:
		return ceph.Errorf(ceph.NotFound, "osd new", "osd.%d does not exist", id)
	case c.osds[at].UUID == uuid && c.keys[uuid] == key:
		return nil
	case c.osds[at].UUID == uuid:
		return ceph.Errorf(ceph.Exists, "osd new", "osd.%d exists with another key", id)
	case !c.osds[at].Destroyed:
		return ceph.Errorf(ceph.Invalid, "osd new", "id %d already in use and does not match uuid %s", id, uuid)
	}
	delete(c.out, id)
	c.osds[at].UUID, c.osds[at].Destroyed, c.osds[at].New = uuid, false, true
	c.keys[uuid] = key
	return nil
}

// EnsureUser creates or changes a CephX user and returns its key.
func (c *Cluster) EnsureUser(ctx context.Context, entity string, caps ceph.Caps) (ceph.Key, error) {
	if err := c.enter(ctx, "EnsureUser"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	known, ok := c.users[entity]
	if !ok {
		key, err := ceph.NewKey(time.Now())
		if err != nil {
			return "", err
		}
		known.key = key
	}
	known.caps = maps.Clone(caps)
	c.users[entity] = known
	return known.key, nil
}

// RemoveUser deletes a CephX user.
func (c *Cluster) RemoveUser(ctx context.Context, entity string) error {
	if err := c.enter(ctx, "RemoveUser"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if _, ok := c.users[entity]; ok {
		c.removed[entity] = true
	}
	delete(c.users, entity)
	delete(c.pending, entity)
	return nil
}

// Users returns the caps of every user.
func (c *Cluster) Users() map[string]ceph.Caps {
	c.mu.Lock()
	defer c.mu.Unlock()
	out := map[string]ceph.Caps{}
	for entity, u := range c.users {
		out[entity] = maps.Clone(u.caps)
	}
	return out
}

// Pools returns every pool.
func (c *Cluster) Pools(ctx context.Context) ([]ceph.Pool, error) {
	if err := c.enter(ctx, "Pools"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	var out []ceph.Pool
	for _, id := range slices.Sorted(maps.Keys(c.pools)) {
		spec := c.pools[id].spec
		least := spec.Size - spec.Size/2
		if spec.DataChunks > 0 {
			least = spec.DataChunks + min(1, spec.CodingChunks-1)
		}
		out = append(out, ceph.Pool{ID: id, Spec: spec, PGs: pgs, MinSize: least, BytesStored: c.stored(id), BytesAvailable: c.available(id)})
	}
	return out, nil
}

// EnsurePool creates a pool or changes it to its spec.
func (c *Cluster) EnsurePool(ctx context.Context, spec ceph.PoolSpec) error {
	if err := c.enter(ctx, "EnsurePool"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if id, ok := c.findPool(spec.Name); ok {
		if err := changeable(c.pools[id].spec, spec); err != nil {
			return err
		}
		c.pools[id].spec = spec
		return nil
	}
	c.nextPool++
	c.pools[c.nextPool] = &pool{spec: spec, images: map[string]*imageData{}, groups: map[string]*groupData{}}
	return nil
}

// RemovePool deletes a pool and all its data.
func (c *Cluster) RemovePool(ctx context.Context, name string) error {
	if err := c.enter(ctx, "RemovePool"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	id, ok := c.findPool(name)
	if !ok {
		return ceph.Errorf(ceph.NotFound, "remove pool "+name, "no such pool")
	}
	delete(c.pools, id)
	return nil
}

// PoolImages returns the names of the images in a pool.
func (c *Cluster) PoolImages(ctx context.Context, name string) ([]string, error) {
	if err := c.enter(ctx, "PoolImages"); err != nil {
		return nil, err
	}
	defer c.mu.Unlock()
	id, ok := c.findPool(name)
	if !ok {
		return nil, ceph.Errorf(ceph.NotFound, "list the images of pool "+name, "no such pool")
	}
	var names []string
	for key := range c.pools[id].images {
		names = append(names, path.Base(key))
	}
	return names, nil
}

// RemoveMon takes a mon out of the monmap.
func (c *Cluster) RemoveMon(ctx context.Context, name string) error {
	if err := c.enter(ctx, "RemoveMon"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	same := func(mon string) bool { return mon == name }
	c.mons = slices.DeleteFunc(slices.Clone(c.mons), same)
	c.quorum = slices.DeleteFunc(slices.Clone(c.quorum), same)
	return nil
}

func (c *Cluster) findPool(name string) (int64, bool) {
	for id, p := range c.pools {
		if p.spec.Name == name {
			return id, true
		}
	}
	return 0, false
}
