package cluster_test

import (
	"strings"
	"testing"

	"github.com/stretchr/testify/require"
	appsv1 "k8s.io/api/apps/v1"
	corev1 "k8s.io/api/core/v1"
	"sigs.k8s.io/controller-runtime/pkg/client"

	"github.com/cairn-storage/cairn/api/v1alpha1"
	"github.com/cairn-storage/cairn/daemon/ceph"
	"github.com/cairn-storage/cairn/operator/cluster"
	"github.com/cairn-storage/cairn/operator/csidriver"
	"github.com/cairn-storage/cairn/operator/kube"
	"github.com/cairn-storage/cairn/tests/controlplane/simulation"
)

const secureOnly = `ms_bind_msgr1 = false
ms_client_mode = secure
ms_cluster_mode = secure
ms_mon_client_mode = secure
ms_mon_cluster_mode = secure
ms_mon_service_mode = secure
ms_service_mode = secure
`

func encrypted(on bool) func(*v1alpha1.StorageCluster) {
	return func(c *v1alpha1.StorageCluster) { c.Spec.Network.Encryption = on }
}

// boundTo says where the mons listen.
func (s *site) boundTo() (addresses []string) {
	var list appsv1.DeploymentList
	require.NoError(s.t, s.Client.List(s.t.Context(), &list, client.InNamespace(s.Namespace), client.MatchingLabels{kube.LabelComponent: "mon"}))
	for _, d := range list.Items {
		_, bind, _ := strings.Cut(d.Spec.Template.Spec.Containers[0].Command[2], "--public-bind-addr ")
		addresses = append(addresses, bind)
	}
	return addresses
}

// restarted are the daemons whose Deployments were changed since, each of which once.
func (s *site) restartedSince(before map[string]int64) (names []string) {
	for name, now := range s.generations() {
		require.LessOrEqual(s.t, now, before[name]+1, "%s restarts once", name)
		if now > before[name] {
			names = append(names, name)
		}
	}
	return names
}

func TestEncryptionBeginsAndEndsDaemonByDaemon(t *testing.T) {
	s := newSite(t)
	s.converge()
	require.Empty(t, s.file())
	for _, on := range []bool{true, false} {
		before := s.generations()
		s.edit(encrypted(on))
		s.converge()
		require.Len(t, s.restartedSince(before), 8, "all daemons")
		require.Equal(t, on, s.file() == secureOnly, s.file())
		for _, bound := range s.boundTo() {
			require.Equal(t, on, bound == `"$POD_IP:3300"`, bound)
		}
		s.rests()
	}
	require.Empty(t, s.Broken())
}

func TestAClusterThatBeginsEncryptedRestartsNoDaemon(t *testing.T) {
	s := newSite(t, encrypted(true))
	s.converge()
	require.Equal(t, secureOnly, s.file())
	for name, generation := range s.generations() {
		require.Equal(t, int64(1), generation, name)
	}
	s.rests()
}

func TestCompressionRestartsTheOSDs(t *testing.T) {
	s := newSite(t)
	s.converge()
	before := s.generations()
	s.edit(func(c *v1alpha1.StorageCluster) { c.Spec.Network.Compression = true })
	s.converge()
	require.ElementsMatch(t, []string{"osd-0", "osd-1", "osd-2"}, s.restartedSince(before))
	require.Equal(t, "[osd]\nms_osd_compress_mode = force\n", s.file())
	s.rests()
}

// Nobody is cut off: the daemons go on as they are while somebody would be.
func TestEncryptionWaitsForWhoWouldBeCutOff(t *testing.T) {
	s := newSite(t)
	s.converge()
	before := s.generations()
	s.Ceph.SetOldClients(ceph.Client{User: "client.csi-node.node2", Address: simulation.Address("node2")}, ceph.Client{User: "client.backup", Address: "10.9.9.9"})
	s.edit(encrypted(true))
	holds := func(reason, says string) {
		s.looks(5)
		now := s.cluster().Status
		require.NotNil(t, now.Blocker)
		require.Equal(t, reason, now.Blocker.Reason)
		require.Contains(t, now.Blocker.Message, says)
		require.Equal(t, before, s.generations(), "no daemon restarts")
		require.Empty(t, s.file(), "a daemon that restarts by itself comes back as it was")
		s.rests()
	}
	holds(v1alpha1.ReasonOldClients, "'encrypt what daemons and clients send each other' waits until no client is connected by version 1 of the messenger, "+
		"which knows no encryption: client.csi-node.node2 on node node2, client.backup at 10.9.9.9")
	s.Ceph.SetOldClients()

	pool := &v1alpha1.BlockPool{}
	pool.Namespace, pool.Name, pool.Spec.Cluster = s.Namespace, "fast", s.name
	require.NoError(t, s.Client.Create(t.Context(), pool))
	secret := &corev1.Secret{Data: map[string][]byte{"monHost": []byte("[v2:10.0.0.1:3300,v1:10.0.0.1:6789]")}}
	secret.Namespace, secret.Name = s.Namespace, csidriver.NodeSecret(s.FSID(), "node1")
	secret.Labels = kube.Labels(s.cluster(), csidriver.Component, "")
	require.NoError(t, s.Client.Create(t.Context(), secret))
	holds(v1alpha1.ReasonNotSafeToRestart, "waits until Secret "+secret.Name+" names the mons by version 2 of the messenger alone")
	secret.Data["monHost"] = []byte("[v2:10.0.0.1:3300]")
	require.NoError(t, s.Client.Update(t.Context(), secret))

	conn, err := s.Ceph.Connect(t.Context(), ceph.Credentials{}, ceph.ConnectOptions{})
	require.NoError(t, err)
	require.NoError(t, conn.SetConfig(t.Context(), "client", "ms_client_mode", "crc"))
	holds(v1alpha1.ReasonNotSafeToRestart, `waits until ms_client_mode of client, which was set by hand to "crc", is gone: ceph config rm client ms_client_mode`)
	require.NoError(t, conn.UnsetConfig(t.Context(), "client", "ms_client_mode"))
	s.converge()
	require.Equal(t, secureOnly, s.file())
	require.NoError(t, s.Client.Delete(t.Context(), pool))
}

// Clients are told of no address by which they could not connect.
func TestClientsOfAnEncryptedClusterKnowVersion2Alone(t *testing.T) {
	s := newSite(t)
	s.converge()
	for _, on := range []bool{true, false} {
		s.edit(encrypted(on))
		cred, err := cluster.Credentials(t.Context(), s.Client, s.cluster())
		require.NoError(t, err)
		require.Equal(t, on, !strings.Contains(cred.MonHost, "v1:"), cred.MonHost)
		require.Equal(t, 3, strings.Count(cred.MonHost, "v2:"))
	}
}

func TestEncryptionHappensAsForeseen(t *testing.T) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	s.happensAsForeseen(encrypted(true))
	require.Contains(t, strings.Join(s.events.(*diary).steps, "\n"), "restart mon-a as the spec says now: it reads spec.network.encryption when it starts")
}

// A daemon that restarts before its turn reads what the others take.
func beginEncryption(t *testing.T) (*site, func()) {
	s := newSite(t)
	s.converge()
	s.looks(2)
	return s, func() {
		before := s.generations()
		s.edit(encrypted(true))
		s.looksUntil("all daemons have restarted", func() bool { return len(s.restartedSince(before)) == 8 })
		s.converge()
		require.Equal(t, secureOnly, s.file())
		require.Empty(t, s.Broken())
	}
}
