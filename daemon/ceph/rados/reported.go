package rados

import (
	"context"
	"fmt"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// pgsOfAnswer is the part of `pg ls-by-osd` that Cairn reads.
type pgsOfAnswer struct {
	Ready bool `json:"pg_ready"`
	PGs   []struct {
		Name string `json:"pgid"`
		// State as of the OSD map's epoch Reported.
		State    string `json:"state"`
		Reported int64  `json:"reported_epoch"`
	} `json:"pg_stats"`
}

// Unreported compares what the mgr last heard of an OSD's PGs with the epoch of the OSD map in
// which the OSD came up. OSDs tell of their PGs every mgr_stats_period (5 s), so that one which
// restarts within that time leaves PGs counted as they were before it.
func (c *conn) Unreported(ctx context.Context, id int) (string, error) {
	var osd struct {
		UpFrom int64 `json:"up_from"`
	}
	switch err := c.ask(ctx, command{"prefix": "osd info", "id": id}, &osd); {
	case ceph.Is(err, ceph.Invalid):
		return "", ceph.Errorf(ceph.NotFound, "osd info", "%w", err)
	case err != nil:
		return "", err
	}
	var pgs pgsOfAnswer
	refused, err := c.askMgr(ctx, command{"prefix": "pg ls-by-osd", "osd": id}, &pgs)
	if err != nil || refused != "" {
		return refused, err
	}
	return unreported(id, osd.UpFrom, &pgs), nil
}

func unreported(id int, upFrom int64, pgs *pgsOfAnswer) string {
	if !pgs.Ready {
		return "the mgr has not heard of all PGs"
	}
	for _, pg := range pgs.PGs {
		switch {
		case pg.Reported < upFrom:
			return fmt.Sprintf("PG %s of osd.%d has not told how it is since the OSD came up", pg.Name, id)
		case !ceph.CleanPG(pg.State):
			return fmt.Sprintf("PG %s of osd.%d is %s", pg.Name, id, pg.State)
		}
	}
	return ""
}
