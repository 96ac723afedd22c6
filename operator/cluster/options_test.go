package cluster_test

import (
	"fmt"
	"slices"
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

type config = map[string]v1alpha1.ConfigSection

func withOptions(c config) func(*v1alpha1.StorageCluster) {
	return func(cluster *v1alpha1.StorageCluster) { cluster.Spec.Ceph.Config = c }
}

// some options of each kind.
func some() config {
	return config{"global": {"debug_ms": "1", "osd_op_queue": "wpq"}, "osd": {"osd_max_backfills": "3", "bluestore_min_alloc_size": "16384"},
		"mgr": {"mgr/balancer/mode": "none"}, "client": {"ms_type": "async+posix"}, "osd.1": {"osd_memory_target": "2G"}}
}

// others than some: one changed, one new, the rest gone.
func others() config {
	return config{"osd": {"osd_recovery_sleep_hdd": "0", "osd_op_num_shards": "4"}, "osd.1": {"osd_memory_target": "1G"}}
}

// database is what the mons were told: "osd.1/osd_memory_target=2147483648".
func (s *site) database() (lines []string) {
	conn, err := s.Ceph.Connect(s.t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(s.t, err)
	set, err := conn.Config(s.t.Context())
	require.NoError(s.t, err)
	for _, o := range set {
		lines = append(lines, o.Who+"/"+o.Option+"="+o.Value)
	}
	slices.Sort(lines)
	return lines
}

// file is ceph.conf, without Cairn's own part.
func (s *site) file() string {
	var object corev1.ConfigMap
	require.NoError(s.t, s.Client.Get(s.t.Context(), client.ObjectKey{Namespace: s.Namespace, Name: s.name + "-ceph-conf"}, &object))
	_, own, _ := strings.Cut(object.Data["ceph.conf"], "mon_host")
	_, text, _ := strings.Cut(own, "\n")
	return text
}

// generations of the daemons' Deployments: a restart raises one.
func (s *site) generations() map[string]int64 {
	var list appsv1.DeploymentList
	require.NoError(s.t, s.Client.List(s.t.Context(), &list, client.InNamespace(s.Namespace)))
	out := map[string]int64{}
	for _, d := range list.Items {
		out[strings.TrimPrefix(d.Name, s.name+"-")] = d.Generation
	}
	return out
}

func TestOptionsGoWhereTheyTakeEffect(t *testing.T) {
	s := newSite(t, withOptions(some()))
	s.converge()
	require.Equal(t, []string{"client/ms_type=async+posix", "global/debug_ms=1/1", "mgr/mgr/balancer/mode=none", "osd.1/osd_memory_target=2147483648", "osd/osd_max_backfills=3"}, s.database())
	require.Equal(t, "osd_op_queue = wpq\n[osd]\nbluestore_min_alloc_size = 16384\n", s.file())
	s.rests()

	before := s.generations()
	s.edit(func(c *v1alpha1.StorageCluster) {
		c.Spec.Ceph.Config = some()
		c.Spec.Ceph.Config["osd"]["osd_max_backfills"] = "4"
		c.Spec.Ceph.Config["osd"]["bluestore_min_alloc_size"] = "4096"
		delete(c.Spec.Ceph.Config, "mgr")
	})
	s.converge()
	require.Equal(t, []string{"client/ms_type=async+posix", "global/debug_ms=1/1", "osd.1/osd_memory_target=2147483648", "osd/osd_max_backfills=4"}, s.database())
	require.Equal(t, before, s.generations(), "no daemon restarts")

	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Ceph.Config["osd.1"]["osd_op_num_shards"] = "4" })
	s.converge()
	before["osd-1"]++
	require.Equal(t, before, s.generations(), "the one daemon restarts that reads it when it starts")
	s.rests()

	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Ceph.Config = nil })
	s.converge()
	require.Empty(t, s.database())
	require.Empty(t, s.file())
	s.rests()
}

// rests: nothing is written to a cluster that is as specified.
func (s *site) rests() {
	s.t.Helper()
	s.looks(3)
	writes := len(s.Writes())
	s.looks(20)
	require.Empty(s.t, s.Writes()[writes:])
}

func TestOptionsSetByHandStay(t *testing.T) {
	s := newSite(t, withOptions(config{"osd": {"osd_recovery_sleep_hdd": "0"}}))
	s.converge()
	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.SetConfig(t.Context(), "osd", "osd_scrub_sleep", "0.1"))
	require.NoError(t, conn.UnsetConfig(t.Context(), "osd", "osd_recovery_sleep_hdd"))
	s.looks(3)
	require.Equal(t, []string{"osd/osd_recovery_sleep_hdd=0.000000", "osd/osd_scrub_sleep=0.100000"}, s.database())
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Ceph.Config = nil })
	s.converge()
	require.Equal(t, []string{"osd/osd_scrub_sleep=0.100000"}, s.database())
}

func TestAnOptionThatCannotBeIsRefusedAndTheRestGoesOn(t *testing.T) {
	for name, c := range map[string]struct {
		options config
		says    string
	}{
		"an unknown one":   {config{"osd": {"osd_max_backfils": "1"}}, "spec.ceph.config.osd.osd_max_backfils: Ceph has no such option; the nearest: osd_max_backfills"},
		"a wrong type":     {config{"osd": {"osd_op_num_shards": "many"}}, `spec.ceph.config.osd.osd_op_num_shards: "many" is no whole number`},
		"out of range":     {config{"osd": {"osd_memory_target": "100M"}}, "spec.ceph.config.osd.osd_memory_target: 100M is out of range: it must be 939524096 or more"},
		"none of its":      {config{"global": {"osd_op_queue": "fifo"}}, `spec.ceph.config.global.osd_op_queue: "fifo" is none of its values: wpq, mclock_scheduler, debug_random`},
		"the wrong daemon": {config{"mon": {"osd_op_queue": "wpq"}}, "spec.ceph.config.mon.osd_op_queue: osd_op_queue is an option of osd, not of mon"},
		"taken back":       {config{"osd": {"osd_max_backfills": "2"}}, "Set osd_mclock_override_recovery_settings to true beside it"},
		"of a mgr module":  {config{"mgr": {"mgr/balancer/mood": "none"}}, "the nearest: mgr/balancer/mode"},
	} {
		t.Run(name, func(t *testing.T) {
			s := newSite(t, withOptions(config{"osd": {"osd_recovery_sleep_hdd": "0.5"}}))
			s.converge()
			file, database := s.file(), s.database()
			s.edit(func(cluster *v1alpha1.StorageCluster) {
				cluster.Spec.Ceph.Config = c.options
				add(cluster, "disk2")
			})
			s.looks(20)
			now := s.cluster().Status
			require.Equal(t, v1alpha1.ReasonInvalidOption, now.Blocker.Reason)
			require.Contains(t, now.Blocker.Message, c.says)
			require.Contains(t, now.Blocker.Message, "the daemons keep the options that they have")
			require.Equal(t, "4/4", now.OSDs.Summary, "an OSD is added all the same")
			s.rests()
			require.Equal(t, file, s.file())
			require.Equal(t, database, s.database())
			s.edit(func(cluster *v1alpha1.StorageCluster) { cluster.Spec.Ceph.Config = nil })
			s.converge()
			require.Empty(t, s.database())
		})
	}
}

func add(c *v1alpha1.StorageCluster, device string) {
	c.Spec.Storage.Nodes[0].Devices = append(c.Spec.Storage.Nodes[0].Devices, v1alpha1.StorageDevice{Name: device})
}

func TestANewClusterWaitsUntilItsOptionsCanBe(t *testing.T) {
	s := newSite(t, withOptions(config{"osd": {"bluestore_min_aloc_size": "4096"}}))
	s.looks(5)
	now := s.cluster().Status
	require.Equal(t, v1alpha1.ReasonInvalidOption, now.Blocker.Reason)
	require.Contains(t, now.Blocker.Message, "the nearest: bluestore_min_alloc_size")
	require.Contains(t, now.Blocker.Message, "Nothing is made before that is corrected")
	require.Empty(t, s.generations())
	require.Empty(t, s.FSID())
	s.edit(withOptions(config{"osd": {"bluestore_min_alloc_size": "4096"}}))
	s.converge()
}

func TestWhatAnEditOfOptionsDoesIsForeseen(t *testing.T) {
	s := newSite(t, withOptions(some()))
	s.converge()
	s.looks(2)
	s.happensAsForeseen(withOptions(others()))
	steps := fmt.Sprint(s.events.(*diary).steps)
	require.Contains(t, steps, "set osd_memory_target of osd.1 to 1G; no daemon restarts")
	require.Contains(t, steps, "it reads global/osd_op_queue, osd/osd_op_num_shards when it starts")
}

func TestAnUpgradeIsRefusedToAReleaseThatLacksAnOption(t *testing.T) {
	s := newSite(t, withOptions(config{"osd": {"osd_recovery_sleep_hdd": "0", "osd_scrub_sleep": "0.1"}}))
	s.images()
	s.converge()
	s.Lacks("later", "osd_scrub_sleep")
	s.upgradeTo("later")
	s.looks(10)
	now := s.cluster().Status
	require.Equal(t, v1alpha1.ReasonUpgradeRefused, now.Blocker.Reason)
	require.Contains(t, now.Blocker.Message, "21.2.0 does not know osd_scrub_sleep. Take them out of spec.ceph.config first")
	require.Equal(t, map[string]int32{upgrade.ShippedVersion: 8}, now.Versions)
	s.edit(withOptions(config{"osd": {"osd_recovery_sleep_hdd": "0"}}))
	require.Equal(t, map[string]int32{"21.2.0": 8}, s.converge().Status.Versions)
}
