package rados

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// What keeps a lost OSD from being destroyed: any PG without enough copies of all its data.
func TestMissed(t *testing.T) {
	for answer, want := range map[string]string{
		`{"pg_ready": true, "pg_stats": []}`: "",
		`{"pg_ready": false}`:                "the mgr has not heard of all PGs",
		`{"pg_ready": true, "pg_stats": [{"state": "active+clean", "up": [0, 1], "acting": [0, 1]}]}`:                                "",
		`{"pg_ready": true, "pg_stats": [{"state": "active+undersized+degraded", "up": [0, 1], "acting": [0, 1]}]}`:                  "",
		`{"pg_ready": true, "pg_stats": [{"state": "active+clean", "up": [0, 2], "acting": [0, 1]}]}`:                                "1 PGs were on osd.2 when they last reported",
		`{"pg_ready": true, "pg_stats": [{"state": "active+clean", "up": [0, 1], "acting": [0, 2]}]}`:                                "1 PGs were on osd.2 when they last reported",
		`{"pg_ready": true, "pg_stats": [{"state": "undersized+degraded+peered", "up": [0], "acting": [0]}]}`:                        "1 PGs are undersized+degraded+peered",
		`{"pg_ready": true, "pg_stats": [{"state": "stale+active+clean", "up": [0], "acting": [0]}]}`:                                "1 PGs are stale+active+clean",
		`{"pg_ready": true, "pg_stats": [{"state": "down", "up": [0], "acting": [0]}, {"state": "down", "up": [0], "acting": [0]}]}`: "2 PGs are down",
		`{"pg_ready": true, "pg_stats": [{"state": "incomplete", "up": [0], "acting": [0]}]}`:                                        "1 PGs are incomplete",
		`{"pg_ready": true, "pg_stats": [{"state": "active+recovery_unfound+degraded", "up": [0], "acting": [0]}]}`:                  "1 PGs are active+recovery_unfound+degraded",
		`{"pg_ready": true, "pg_stats": [{"state": "unknown", "up": [], "acting": []}]}`:                                             "1 PGs are unknown",
		`{"pg_ready": true, "pg_stats": [{"state": "active+clean+inconsistent", "up": [0], "acting": [0]}]}`:                         "1 PGs are active+clean+inconsistent",
	} {
		var dump pgDumpAnswer
		require.NoError(t, json.Unmarshal([]byte(answer), &dump))
		require.Equal(t, want, missed(2, &dump, 0), answer)
	}
	require.Equal(t, "3 objects are unfound", missed(2, &pgDumpAnswer{Ready: true}, 3))
}
