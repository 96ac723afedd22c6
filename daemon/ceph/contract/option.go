package contract

import (
	"testing"

	"github.com/stretchr/testify/require"

	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/daemon/ceph/option"
)

func (s *suite) options(t *testing.T) {
	names, err := s.conn.OptionNames(s.ctx)
	require.NoError(t, err)
	require.Contains(t, names, "osd_op_num_shards")
	_, err = s.conn.Option(s.ctx, "osd_max_backfils")
	requireKind(t, ceph.NotFound, err)
	for name, want := range map[string]ceph.Option{
		"osd_memory_target":        {Type: "size", Effect: ceph.EffectRuntime, Min: "939524096"},
		"osd_op_num_shards":        {Type: "int", Effect: ceph.EffectStart, Services: []string{"osd"}},
		"bluestore_min_alloc_size": {Type: "uint", Effect: ceph.EffectCreation},
		"osd_op_queue":             {Type: "str", Effect: ceph.EffectStart, Services: []string{"osd"}, Values: []string{"wpq", "mclock_scheduler", "debug_random"}},
		"mgr/balancer/mode":        {Type: "str", Effect: ceph.EffectRuntime, Values: []string{"crush-compat", "none", "read", "upmap", "upmap-read"}},
	} {
		want.Name = name
		got, err := s.conn.Option(s.ctx, name)
		require.NoError(t, err)
		if len(got.Services) == 0 {
			got.Services = nil
		}
		if len(got.Values) == 0 {
			got.Values = nil
		}
		require.Equal(t, want, *got)
	}
	s.configured(t)
	s.refusedOptions(t)
}

// configured: what is set is there in Ceph's form, which is that of option.Normal.
func (s *suite) configured(t *testing.T) {
	before := s.config(t)
	for _, c := range []ceph.Setting{
		{Option: "bluestore_cache_size", Value: "64M"}, {Option: "bluestore_cache_size", Value: "1GiB"},
		{Option: "mon_max_pg_per_osd", Value: "1K"}, {Option: "osd_recovery_sleep_hdd", Value: "1e-3"},
		{Option: "osd_mclock_skip_benchmark", Value: "TRUE"}, {Option: "osd_mclock_skip_benchmark", Value: "0"},
		{Option: "mgr_tick_period", Value: "1h"}, {Option: "mgr_tick_period", Value: "90"}, {Option: "mgr_tick_period", Value: "1h30m"},
		{Option: "debug_osd", Value: "3"}, {Option: "debug_osd", Value: "1/5"}, {Option: "mgr/balancer/mode", Value: "none"},
	} {
		c.Who = "osd.77"
		require.NoError(t, s.conn.SetConfig(s.ctx, c.Who, c.Option, c.Value))
		described, err := s.conn.Option(s.ctx, c.Option)
		require.NoError(t, err)
		require.NoError(t, option.Check(described, "global", c.Value))
		c.Value, err = option.Normal(described, c.Value)
		require.NoError(t, err)
		require.Contains(t, s.config(t), c)
		for range 2 {
			require.NoError(t, s.conn.UnsetConfig(s.ctx, c.Who, c.Option))
		}
	}
	require.Equal(t, before, s.config(t))
}

// refusedOptions: what option.Check refuses, Ceph refuses.
func (s *suite) refusedOptions(t *testing.T) {
	requireKind(t, ceph.Invalid, s.conn.SetConfig(s.ctx, "osd.77", "osd_max_backfils", "1"))
	for name, values := range map[string][]string{
		"mon_max_pg_per_osd": {"-1", "x", "0", "1.5"}, "osd_memory_target": {"100M", "4Q"}, "osd_op_queue": {"foo"},
		"osd_mclock_skip_benchmark": {"yes"}, "debug_osd": {"foo"}, "osd_recovery_sleep_hdd": {"x"}, "mgr_tick_period": {"x", "1q"},
	} {
		described, err := s.conn.Option(s.ctx, name)
		require.NoError(t, err)
		for _, value := range values {
			require.Error(t, option.Check(described, "global", value), "%s = %s", name, value)
			requireKind(t, ceph.Invalid, s.conn.SetConfig(s.ctx, "osd.77", name, value))
		}
	}
}

func (s *suite) config(t *testing.T) []ceph.Setting {
	set, err := s.conn.Config(s.ctx)
	require.NoError(t, err)
	return set
}
