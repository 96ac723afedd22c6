package rados

import (
	"encoding/json"
	"testing"

	"github.com/stretchr/testify/require"
)

// PGs that were clean before an OSD came up, in epoch 40, are not taken for clean.
func TestUnreported(t *testing.T) {
	for answer, want := range map[string]string{
		`{"pg_ready": true, "pg_stats": []}`: "",
		`{"pg_ready": false}`:                "the mgr has not heard of all PGs",
		`{"pg_ready": true, "pg_stats": [{"pgid": "1.0", "state": "active+clean", "reported_epoch": 40}, {"pgid": "1.1", "state": "active+clean+scrubbing", "reported_epoch": 41}]}`:           "",
		`{"pg_ready": true, "pg_stats": [{"pgid": "1.0", "state": "active+clean", "reported_epoch": 41}, {"pgid": "1.7", "state": "active+clean", "reported_epoch": 39}]}`:                     "PG 1.7 of osd.2 has not told how it is since the OSD came up",
		`{"pg_ready": true, "pg_stats": [{"pgid": "1.0", "state": "active+clean", "reported_epoch": 41}, {"pgid": "1.7", "state": "active+undersized+degraded", "reported_epoch": 41}]}`:       "PG 1.7 of osd.2 is active+undersized+degraded",
		`{"pg_ready": true, "pg_stats": [{"pgid": "1.0", "state": "active+clean", "reported_epoch": 41}, {"pgid": "1.7", "state": "stale+active+clean", "reported_epoch": 41}]}`:               "PG 1.7 of osd.2 is stale+active+clean",
		`{"pg_ready": true, "pg_stats": [{"pgid": "1.0", "state": "active+recovering+degraded", "reported_epoch": 41}, {"pgid": "1.7", "state": "stale+active+clean", "reported_epoch": 41}]}`: "PG 1.0 of osd.2 is active+recovering+degraded",
	} {
		var pgs pgsOfAnswer
		require.NoError(t, json.Unmarshal([]byte(answer), &pgs))
		require.Equal(t, want, unreported(2, 40, &pgs), answer)
	}
}
