package model

import (
	"context"
	"maps"
	"slices"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// pgs by state: all are clean while every OSD that takes part is up, and none
// recovers.
func (c *Cluster) pgs() map[string]int {
	if c.states != nil {
		return maps.Clone(c.states)
	}
	if len(c.osds) == 0 {
		return map[string]int{}
	}
	if c.recovers || slices.ContainsFunc(c.osds, func(osd ceph.OSD) bool { return osd.In && !osd.Up }) {
		return map[string]int{"active+clean": 24, "active+undersized+degraded": 8}
	}
	return map[string]int{"active+clean": 32}
}

// SetRecovering has some PGs be repaired, with every OSD up.
func (c *Cluster) SetRecovering(recovers bool) {
	c.mu.Lock()
	defer c.mu.Unlock()
	c.recovers = recovers
}

// NotOKToStop says why OSDs cannot all be down: replicas lie on two hosts at
// least, and one that serves must be left.
func (c *Cluster) NotOKToStop(ctx context.Context, ids []int) (string, error) {
	if err := c.enter(ctx, "NotOKToStop"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	hosts, left, stops := map[string]bool{}, false, false
	for _, osd := range c.osds {
		stopped := slices.Contains(ids, osd.ID) && osd.Up
		stops = stops || stopped
		if osd.In && (stopped || !osd.Up) {
			hosts[osd.Host] = true
		}
		left = left || osd.Up && !stopped
	}
	if stops && (len(hosts) > 1 || !left) {
		return "unsafe to stop osd(s) at this time (8 PGs are or would become offline)", nil
	}
	return "", nil
}

// Unreported is empty: PGs tell at once.
func (c *Cluster) Unreported(ctx context.Context, id int) (string, error) {
	if err := c.enter(ctx, "Unreported"); err != nil {
		return "", err
	}
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.osds, func(osd ceph.OSD) bool { return osd.ID == id }) {
		return "", ceph.Errorf(ceph.NotFound, "osd info", "no osd.%d", id)
	}
	return "", nil
}

// SetNoOut keeps the OSDs of a host from being taken out, or ends that.
func (c *Cluster) SetNoOut(ctx context.Context, host string, on bool) error {
	if err := c.enter(ctx, "SetNoOut"); err != nil {
		return err
	}
	defer c.mu.Unlock()
	if !slices.ContainsFunc(c.osds, func(osd ceph.OSD) bool { return osd.Host == host }) {
		return ceph.Errorf(ceph.NotFound, "set noout", "no host %s in the CRUSH map", host)
	}
	c.noOut[host] = on
	return nil
}
