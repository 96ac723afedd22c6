package rados

import (
	"context"
	"regexp"
	"sort"

	"github.com/cairn-storage/cairn/daemon/ceph"
)

// statusAnswer is the part of `status` that Cairn reads.
type statusAnswer struct {
	FSID   string `json:"fsid"`
	Health struct {
		Status string `json:"status"`
		Checks map[string]struct {
			Severity string `json:"severity"`
			Summary  struct {
				Message string `json:"message"`
			} `json:"summary"`
			Muted bool `json:"muted"`
		} `json:"checks"`
	} `json:"health"`
	QuorumNames []string `json:"quorum_names"`
	OSDMap      struct {
		NumOSDs   int `json:"num_osds"`
		NumUpOSDs int `json:"num_up_osds"`
		NumInOSDs int `json:"num_in_osds"`
	} `json:"osdmap"`
	PGMap struct {
		PGsByState []struct {
			State string `json:"state_name"`
			Count int    `json:"count"`
		} `json:"pgs_by_state"`
		Unfound    int64 `json:"unfound_objects"`
		Pools      int   `json:"num_pools"`
		BytesUsed  int64 `json:"bytes_used"`
		BytesAvail int64 `json:"bytes_avail"`
		BytesTotal int64 `json:"bytes_total"`
	} `json:"pgmap"`
}

type mgrAnswer struct {
	ActiveName string     `json:"active_name"`
	Available  bool       `json:"available"`
	Standbys   []struct{} `json:"standbys"`
}

type monDumpAnswer struct {
	Mons []struct {
		Name string `json:"name"`
	} `json:"mons"`
}

// Status returns health, quorum, mgr and capacity in one look.
func (c *conn) Status(ctx context.Context) (*ceph.Status, error) {
	var (
		status   statusAnswer
		mgr      mgrAnswer
		mons     monDumpAnswer
		versions struct {
			Overall map[string]int `json:"overall"`
		}
	)
	for prefix, answer := range map[string]any{"status": &status, "mgr dump": &mgr, "mon dump": &mons, "versions": &versions} {
		if err := c.ask(ctx, command{"prefix": prefix}, answer); err != nil {
			return nil, err
		}
	}
	return statusOf(&status, &mgr, &mons, versions.Overall), nil
}

func statusOf(s *statusAnswer, mgr *mgrAnswer, mons *monDumpAnswer, versions map[string]int) *ceph.Status {
	out := &ceph.Status{
		FSID: s.FSID, Health: s.Health.Status, Quorum: s.QuorumNames, StandbyMgrs: len(mgr.Standbys),
		OSDs: s.OSDMap.NumOSDs, OSDsUp: s.OSDMap.NumUpOSDs, OSDsIn: s.OSDMap.NumInOSDs,
		Pools: s.PGMap.Pools, BytesTotal: s.PGMap.BytesTotal, BytesUsed: s.PGMap.BytesUsed, BytesAvailable: s.PGMap.BytesAvail,
		PGs: map[string]int{}, Versions: map[string]int{},
	}
	if mgr.Available {
		out.ActiveMgr = mgr.ActiveName
	}
	for _, mon := range mons.Mons {
		out.Mons = append(out.Mons, mon.Name)
	}
	for code, check := range s.Health.Checks {
		out.Checks = append(out.Checks, ceph.HealthCheck{Code: code, Severity: check.Severity, Summary: check.Summary.Message, Muted: check.Muted})
	}
	sort.Slice(out.Checks, func(i, j int) bool { return out.Checks[i].Code < out.Checks[j].Code })
	for _, pgs := range s.PGMap.PGsByState {
		out.PGs[pgs.State] += pgs.Count
	}
	for version, count := range versions {
		out.Versions[shortVersion(version)] += count
	}
	return out
}

var versionNumber = regexp.MustCompile(`\d+\.\d+\.\d+`)

// shortVersion takes the number out of "ceph version 20.2.4 (…) tentacle (stable)".
func shortVersion(long string) string {
	if number := versionNumber.FindString(long); number != "" {
		return number
	}
	return long
}
