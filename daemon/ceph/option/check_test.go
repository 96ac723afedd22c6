package option_test

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
)

func TestAnOptionIsRefusedWithWhatItCanBe(t *testing.T) {
	for name, c := range map[string]struct{ section, value, says string }{
		"osd_memory_target":         {"osd", "100M", "100M is out of range: it must be 939524096 or more"},
		"osd_op_num_shards":         {"osd", "many", `"many" is no whole number: a whole number, such as 4 or 64K (K is 1000 here)`},
		"mon_max_pg_per_osd":        {"mon", "-1", `"-1" is no whole number of 0 or more`},
		"osd_op_queue":              {"mon", "wpq", "osd_op_queue is an option of osd, not of mon; put it there, or in global"},
		"osd_mclock_profile":        {"osd", "fast", `"fast" is none of its values: balanced, high_recovery_ops, high_client_ops, custom`},
		"osd_mclock_skip_benchmark": {"osd.3", "yes", `"yes" is neither true nor false`},
		"mgr_tick_period":           {"mgr", "soon", `"soon" is no time, such as 90, 15m or 1h`},
		"osd_recovery_sleep_hdd":    {"osd", "x", `"x" is no number, such as 0.5`},
		"debug_osd":                 {"osd", "high", "it must be a level such as 1 or 1/5"},
		"bluestore_cache_size":      {"osd", "20X", `"20X" is no size`},
		"osd_max_backfills":         {"osd", "99999999999999999999", "more than 64 bits"},
		"osd_scrub_sleep":           {"client.rgw", "1", "put it there, or in global"},
	} {
		o := option.Shipped(name)
		require.NotNil(t, o, name)
		require.ErrorContains(t, option.Check(o, c.section, c.value), c.says)
	}
}

func TestAnOptionIsTakenAsCephTakesIt(t *testing.T) {
	for name, c := range map[string]struct{ section, value, normal string }{
		"osd_memory_target":         {"osd.12", "4Gi", "4294967296"},
		"mon_max_pg_per_osd":        {"global", "1K", "1000"},
		"osd_mclock_skip_benchmark": {"osd", "1", "true"},
		"mgr_tick_period":           {"mgr.a", "1h30m", "5400"},
		"rbd_default_features":      {"client", "layering", "layering"},
		"debug_ms":                  {"client.admin", "0", "0/0"},
	} {
		o := option.Shipped(name)
		require.NotNil(t, o, name)
		require.NoError(t, option.Check(o, c.section, c.value), name)
		normal, err := option.Normal(o, c.value)
		require.NoError(t, err)
		require.Equal(t, c.normal, normal)
		require.True(t, option.Same(o, c.value, normal))
	}
	require.False(t, option.Same(&ceph.Option{Type: "int"}, "1", "2"))
	require.False(t, option.Same(&ceph.Option{Type: "int"}, "x", "y"))
}

func TestTheNearestNamesAreOffered(t *testing.T) {
	require.Equal(t, []string{"osd_max_backfills"}, option.Near(option.Names(), "osd_max_backfils"))
	require.Equal(t, "bluestore_min_alloc_size", option.Near(option.Names(), "bluestore_min_aloc_size")[0])
	require.LessOrEqual(t, len(option.Near(option.Names(), "osd_recovery_sleep_hd")), 3)
	require.Empty(t, option.Near(option.Names(), "nothing_like_any_option"))
}
