package rados

import (
	"context"
	"fmt"
	"maps"
	"slices"
	"strings"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// RenewOSD gives the ID of a destroyed OSD to a new one (docs.ceph.com, "Replacing an OSD").
// The mons refuse an ID that is not destroyed, and answer a repeat as the first.
func (c *conn) RenewOSD(ctx context.Context, id int, uuid string, key ceph.Key) error {
	_, err := c.osdNew(ctx, command{"prefix": "osd new", "uuid": uuid, "id": id}, map[string]string{"cephx_secret": key.Reveal()})
	return err
}

// pgDumpAnswer is the brief part of `pg dump` that Cairn reads.
type pgDumpAnswer struct {
	Ready bool `json:"pg_ready"`
	PGs   []struct {
		State  string `json:"state"`
		Up     []int  `json:"up"`
		Acting []int  `json:"acting"`
	} `json:"pg_stats"`
}

// StillMissed asks which PGs are not served, and whether all have been heard of since the
// OSD went down.
func (c *conn) StillMissed(ctx context.Context, id int) (string, error) {
	var dump pgDumpAnswer
	refused, err := c.askMgr(ctx, command{"prefix": "pg dump", "dumpcontents": []string{"pgs_brief"}}, &dump)
	if err != nil || refused != "" {
		return refused, err
	}
	var status statusAnswer
	if err := c.ask(ctx, command{"prefix": "status"}, &status); err != nil {
		return "", err
	}
	return missed(id, &dump, status.PGMap.Unfound), nil
}

func missed(id int, dump *pgDumpAnswer, unfound int64) string {
	if !dump.Ready {
		return "the mgr has not heard of all PGs"
	}
	on, not := 0, map[string]int{}
	for _, pg := range dump.PGs {
		if slices.Contains(pg.Up, id) || slices.Contains(pg.Acting, id) {
			on++
		}
		if !served(pg.State) {
			not[pg.State]++
		}
	}
	for _, state := range slices.Sorted(maps.Keys(not)) {
		return fmt.Sprintf("%d PGs are %s", not[state], state)
	}
	switch {
	case on > 0:
		return fmt.Sprintf("%d PGs were on osd.%d when they last reported", on, id)
	case unfound > 0:
		return fmt.Sprintf("%d objects are unfound", unfound)
	}
	return ""
}

// served reports of a PG's state whether enough OSDs have all of it, up to date.
func served(state string) bool {
	states := strings.Split(state, "+")
	return slices.Contains(states, "active") && !slices.ContainsFunc(states, func(s string) bool {
		return slices.Contains([]string{"stale", "unknown", "incomplete", "down", "peering", "recovery_unfound", "backfill_unfound", "inconsistent"}, s)
	})
}

// DestroyOSD has the mgr destroy an OSD, which looks first whether that is safe. It never
// is of one that is down while a PG has too few copies; so for a lost device, which
// has none to give, what counts is whether the others serve everything.
func (c *conn) DestroyOSD(ctx context.Context, id int, uuid string, lost bool) error {
	const op = "osd destroy"
	osds, err := c.OSDs(ctx)
	if err != nil {
		return err
	}
	at := slices.IndexFunc(osds, func(osd ceph.OSD) bool { return osd.ID == id })
	switch {
	case at < 0 || osds[at].Destroyed:
		return nil
	case osds[at].UUID != uuid:
		return ceph.Errorf(ceph.Exists, op, "osd.%d is %s, not %s", id, osds[at].UUID, uuid)
	case osds[at].Up:
		return ceph.Errorf(ceph.Busy, op, "osd.%d runs", id)
	}
	cmd := command{"prefix": op, "id": id}
	if lost {
		missed, err := c.StillMissed(ctx, id)
		if err != nil {
			return err
		}
		if missed != "" {
			return ceph.Errorf(ceph.Busy, op, "%s", missed)
		}
		cmd["force"] = true
	}
	return c.end(ctx, cmd)
}
