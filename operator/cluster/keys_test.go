package cluster

import (
	"fmt"
	"testing"
	"time"

	"github.com/stretchr/testify/require"
	metav1 "k8s.io/apimachinery/pkg/apis/meta/v1"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/mon"
	"github.com/cairn-storage/cairn/operator/upgrade"
)

var moment = time.Date(2026, 1, 2, 3, 4, 5, 0, time.UTC)

func tentacleKey() (ceph.Key, error) { return ceph.NewKey(moment) }

func testCluster() *v1alpha1.StorageCluster {
	c := &v1alpha1.StorageCluster{ObjectMeta: metav1.ObjectMeta{Namespace: "cairn-system", Name: "main", UID: "uid", Generation: 1}}
	c.Spec.Mon.Count, c.Spec.Mgr.Count = 3, 2
	c.Spec.Ceph.Image, c.Spec.DataPath, c.Spec.Network.Provider = upgrade.Shipped, "/var/lib/cairn", "pod"
	return c
}

func TestKeysAreReadBackAsTheyWereWritten(t *testing.T) {
	keys, err := newKeys(tentacleKey)
	require.NoError(t, err)
	keys.begin(1)
	back, err := readKeys(keys.secret(testCluster()))
	require.NoError(t, err)
	require.Equal(t, keys, back)
}

func TestASecretThatLacksAnythingIsRefusedByName(t *testing.T) {
	keys, err := newKeys(tentacleKey)
	require.NoError(t, err)
	for entry := range keys.secret(testCluster()).Data {
		t.Run(entry, func(t *testing.T) {
			secret := keys.secret(testCluster())
			delete(secret.Data, entry)
			_, err := readKeys(secret)
			require.ErrorContains(t, err, "main-keys")
			require.ErrorContains(t, err, entry)
		})
	}
}

func TestKeysNeverPrint(t *testing.T) {
	keys, err := newKeys(tentacleKey)
	require.NoError(t, err)
	text := fmt.Sprintf("%v %+v %#v %s", keys, keys, keys, keys.Credentials(""))
	for _, key := range keys.Keys {
		require.NotContains(t, text, key.Reveal())
	}
}

func TestTheKeysSecretOutlivesItsCluster(t *testing.T) {
	keys, err := newKeys(tentacleKey)
	require.NoError(t, err)
	require.Empty(t, keys.secret(testCluster()).OwnerReferences)
}

func TestEachDaemonGetsTheKeyringOfItsOwnOnly(t *testing.T) {
	keys, err := newKeys(tentacleKey)
	require.NoError(t, err)
	secrets := keys.keyrings(testCluster(), nil, []string{"a"})
	require.Len(t, secrets, 2)
	require.Contains(t, string(secrets[0].Data["keyring"]), "[client.admin]")
	require.Equal(t, fmt.Sprintf("[mgr.a]\nkey = %s\ncaps mds = \"allow *\"\ncaps mon = \"allow profile mgr\"\ncaps osd = \"allow *\"\n", keys.Keys["mgr.a"].Reveal()),
		string(secrets[1].Data["keyring"]))
}

func TestCephConf(t *testing.T) {
	config := map[string]v1alpha1.ConfigSection{
		"osd": {"osd_max_backfills": "2", "bluestore_cache_size": "1073741824"}, "osd.3": {"debug_osd": "10"}, "global": {"log_to_stderr": "false"},
	}
	const golden = `[global]
auth_allow_insecure_global_id_reclaim = false
err_to_stderr = true
fsid = the-fsid
log_file = 
log_to_file = false
log_to_stderr = false
mon_cluster_log_to_file = false
mon_cluster_log_to_stderr = true
mon_host = [v2:10.0.0.1:3300,v1:10.0.0.1:6789]
[osd]
bluestore_cache_size = 1073741824
osd_max_backfills = 2
[osd.3]
debug_osd = 10
`
	for range 20 { // maps have no order, the file has
		require.Equal(t, golden, cephConf("the-fsid", mon.Host([]mon.Mon{{Address: "10.0.0.1"}}), config))
	}
}
